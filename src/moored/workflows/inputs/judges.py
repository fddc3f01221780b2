"""The judges by name."""

from moored.embedded.model import BASE, embedded_source
from moored.embedded.refusal_judge import RefusalJudge
from moored.errors import InputError
from moored.measurement import JUDGES, Judge
from moored.settings import require_known


def _refusal_judge() -> Judge:
    """The judge with its model fetched, so that a missing one is told before anything long runs."""
    try:
        embedded_source(BASE)
    except InputError as error:
        raise InputError(f"The judge `refusal` needs the embedded model, or name the judge `rules`: {error}") from error
    return RefusalJudge()


def judge_named(name: str) -> Judge:
    """Makes the judge of a name.

    Raises:
        InputError: there is none of that name (the sentence names the nearest), or its model cannot be had.
    """
    known = {"refusal": _refusal_judge, **JUDGES}
    require_known([name], known, what="judge")
    return known[name]()
