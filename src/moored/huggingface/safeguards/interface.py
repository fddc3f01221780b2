"""What a safeguard is to a trainer: what the user hands over, and what the trainer keeps of it while it runs."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from moored.errors import InputError
from moored.regularizers import TokenPenalty, WeightPenalty, require_strength
from moored.selection import GradientSelection

NEEDS = frozenset({"reference", "base", "harmful", "hidden_states"})
"""What a safeguard may declare that it needs."""


@runtime_checkable
class Safeguard(Protocol):
    """A frozen dataclass: a `GradientSelection`, or a penalty with a `strength`, the factor in the loss, ≥ 0.

    A strength of 0, like a `keep` of 1, declares it off, and the run is the plain one, bit for bit.
    """

    @property
    def name(self) -> str:
        """Under which it is logged, as `safety/<name>/…`."""
        ...

    @property
    def needs(self) -> frozenset[str]:
        """Any of `NEEDS`. `reference`: the anchor, which is the weights that the run starts from."""
        ...


class Running(Protocol):
    """A safeguard at work in a trainer."""

    @property
    def safeguard(self) -> Safeguard:
        """Its settings."""
        ...

    def announce(self) -> str:
        """What it does, for the list before the first step."""
        ...

    def drain(self) -> dict[str, float]:
        """What happened since the last call, for the log."""
        ...

    def finish(self) -> str:
        """What it did, for the list after the last step.

        Raises:
            InactiveError: it was idle although it should not have been.
        """
        ...

    def report(self) -> dict[str, Any]:
        """What it did, for the run's record."""
        ...


def is_on(safeguard: Any) -> bool:
    """Whether it changes the run at all."""
    return safeguard.keep < 1 if isinstance(safeguard, GradientSelection) else safeguard.strength > 0


def checked(safeguards: Sequence[Any]) -> list[Any]:
    """The safeguards that are on.

    Raises:
        InputError: what is wrong with one of them, in one sentence.
    """
    names = [safeguard.name for safeguard in safeguards]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"The safeguard {twice} is given twice; give it once with the strength you want.")
    for safeguard in safeguards:
        if not isinstance(safeguard, GradientSelection):
            _check_penalty(safeguard)
    return [safeguard for safeguard in safeguards if is_on(safeguard)]


def _check_penalty(penalty: Any) -> None:
    unknown = sorted(penalty.needs - NEEDS)
    if unknown:
        known = ", ".join(sorted(NEEDS))
        raise InputError(f"The safeguard {penalty.name} needs {unknown[0]}, which is none of {known}.")
    require_strength(penalty)
    if not isinstance(penalty, WeightPenalty | TokenPenalty):
        raise InputError(f"The safeguard {penalty.name} has neither a weight_penalty nor a token_penalty.")


def told_share(share: float | None) -> str:
    """A penalty's part in what was minimized, in words."""
    # Significant digits: a penalty that is next to nothing is to be seen as such, and is not nothing.
    return (
        "took no step" if share is None else f"was {100 * share:.3g}% of the loss and the penalties together at the end"
    )
