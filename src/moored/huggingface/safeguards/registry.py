"""The kinds of safeguard that a trainer can run; a new kind is one file beside this one and one line in `KINDS`."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers import Trainer

from moored.errors import InputError
from moored.huggingface.safeguards import row_selection, token_penalty, weight_penalty
from moored.huggingface.safeguards.interface import NEEDS, ActiveSafeguard, is_on
from moored.regularizers import TokenPenalty, WeightPenalty, require_strength
from moored.selection import GradientSelection

KINDS: dict[type, Callable[[Any, Trainer], ActiveSafeguard]] = {
    GradientSelection: row_selection.activate,
    WeightPenalty: weight_penalty.activate,
    TokenPenalty: token_penalty.activate,
}
"""Each kind of settings, and the function that makes it run in a trainer.

The order is that in which the hooks are called: what chooses rows comes before what counts them.
"""


def require_usable(safeguards: Sequence[Any]) -> None:
    """Checks the settings of a run's safeguards.

    Raises:
        InputError: two of one name, a need that nobody can meet, a bad strength, or an object that is no safeguard.
    """
    names = [safeguard.name for safeguard in safeguards]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"The safeguard {repeated} is given twice; give it once with the strength you want.")
    for safeguard in safeguards:
        _require_known(safeguard)


def activate(safeguards: Sequence[Any], trainer: Trainer) -> list[ActiveSafeguard]:
    """Makes the safeguards that are on run in a trainer, in the order of `KINDS`."""
    on = [safeguard for safeguard in safeguards if is_on(safeguard)]
    return [make(each, trainer) for kind, make in KINDS.items() for each in on if isinstance(each, kind)]


def _require_known(safeguard: Any) -> None:
    unknown = sorted(safeguard.needs - NEEDS)
    if unknown:
        raise InputError(
            f"The safeguard {safeguard.name} needs {unknown[0]}, which is none of {', '.join(sorted(NEEDS))}."
        )
    if hasattr(safeguard, "strength"):
        require_strength(safeguard)
    if not isinstance(safeguard, tuple(KINDS)):
        kinds = ", ".join(kind.__name__ for kind in KINDS)
        raise InputError(f"The safeguard {safeguard.name} is of no known kind ({kinds}); give it the methods of one.")
