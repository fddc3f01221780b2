"""The contracts of the two kinds of penalty. The kind carries the scaling rule, so that no method can get it wrong."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from moored.errors import InputError
from moored.tensors.low_rank import Matrix

Guide = TypeVar("Guide")
"""What a penalty needs of one weight."""


def require_strength(penalty: Any) -> None:
    """Raises InputError where the strength of a penalty is no finite number of 0 or more."""
    strength = penalty.strength
    if not isinstance(strength, int | float) or not 0 <= strength < float("inf"):
        raise InputError(f"The strength of {penalty.name} is {strength}; give a number of 0 or more.")


def require_words(penalty: Any) -> None:
    """Raises InputError where a setting is none of the words that its type names: it would pass for another one."""
    for setting, hint in get_type_hints(type(penalty)).items():
        known = [word for each in (hint, *get_args(hint)) if get_origin(each) is Literal for word in get_args(each)]
        value = getattr(penalty, setting)
        if known and value is not None and value not in known:
            words = ", ".join(known)
            raise InputError(f"{type(penalty).__name__}({setting}=...) must be one of {words}, got {value}.")


@runtime_checkable
class TokenPenalty(Protocol):
    """Judges what the model says; the glue averages over the guarded positions of the whole optimizer step."""

    @property
    def strength(self) -> float:
        """The factor in the loss, ≥ 0."""
        ...

    def token_penalty(
        self, salient_logits: Float[Tensor, "position token"], reference_logits: Float[Tensor, "position token"]
    ) -> Float[Tensor, "position token"]:
        """One value per guarded position and salient token, not reduced."""
        ...


@runtime_checkable
class WeightPenalty(Protocol):
    """Judges where one guarded weight went; the glue sums over the weights, once per optimizer step."""

    @property
    def strength(self) -> float:
        """The factor in the loss, ≥ 0."""
        ...

    @property
    def scaled(self) -> bool:
        """Whether the update of a LoRA counts with its scale α/r, as the model sees it, or is the bare BA."""
        ...

    @property
    def relative(self) -> bool:
        """Whether the strength is the norm of the penalty's gradient over that of the loss's on the guarded weights."""
        ...

    def weight_penalty(self, update: Matrix, guide: Any) -> Float[Tensor, ""]:
        """The penalty of one weight, differentiable in `update`, the weight minus the anchor's.

        `guide` is what `guide` of the same penalty made for this weight, or None for a penalty that has none.
        """
        ...


@runtime_checkable
class GuidedPenalty(WeightPenalty, Protocol[Guide]):
    """A weight penalty that is led by a direction of each weight."""

    def guide(self, difference: Matrix, name: str) -> Guide:
        """What `weight_penalty` needs of one weight, made once.

        Args:
            difference: the aligned weight minus the base model's for a penalty that needs `base`; the step that
                harmful fine-tuning would take first for one that needs `harmful`. In fp32, `out × in`.
            name: the weight's plain name.
        """
        ...

    def describe(self, guides: Mapping[str, Guide]) -> str:
        """What the guides have in common, for the list before the first step; warns of what the user should know."""
        ...
