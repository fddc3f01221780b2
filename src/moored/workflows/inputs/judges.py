"""The judges by name."""

from collections.abc import Callable, Mapping

from moored.embedded.refusal_judge import RefusalJudge
from moored.measurement import Judge, RuleJudge
from moored.settings import require_known

JUDGES: Mapping[str, Callable[[], Judge]] = {"refusal": RefusalJudge, "rules": RuleJudge}
"""The judges by the name that the command line takes."""


def judge_named(name: str) -> Judge:
    """Makes the judge of a name.

    Raises:
        InputError: there is none of that name; the sentence names the nearest.
    """
    require_known([name], JUDGES, what="judge")
    return JUDGES[name]()


def default_judge() -> Judge:
    """Makes the judge that is used wherever none is named."""
    return judge_named("refusal")
