"""AsFT without a base model: updates pay for following the direction of harmful fine-tuning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

from jaxtyping import Float
from torch import Tensor

from moored.errors import InputError
from moored.regularizers._interface import require_strength, require_words
from moored.tensors.column_space import Along, orthonormal, principal_factor
from moored.tensors.low_rank import Matrix, left_times, shuffled_rows, squared_norm, whole


@dataclass(frozen=True)
class HarmfulGuide:
    """The main directions of one weight's harmful gradient."""

    basis: Float[Tensor, "out k"]
    """U_k, orthonormal."""
    energy: float
    """The share of the gradient's squared norm that they hold."""


@dataclass(frozen=True, kw_only=True)
class HarmfulDirection:
    """λ Σ ‖U_k U_kᵀ ΔW‖², where U_k are the main directions of the step that harmful fine-tuning would take first.

    After AsFT_Alt (arXiv 2506.08473), which estimates the harmful direction from harmful data and keeps updates to its
    orthogonal complement. How it does so could not be read; ours takes the gradient, at the start, of the likelihood of
    compliant *openings* after harmful requests, so that no harmful answer is needed.

    Args:
        strength: λ, ≥ 0; 0 is off.
        examples: pairs of a harmful request and a compliant opening; `moored train` takes embedded ones by default.
        rank: k, the directions of each weight, ≥ 1.
        scaled: whether a LoRA's ΔW is (α/r) BA, as the model sees it, or the bare BA.
        relative: whether `strength` is the norm of the penalty's gradient over that of the loss's, on the guarded
            weights and step by step, in place of λ (our choice).
        direction: `random` is the control: the directions with their entries shuffled and their signs drawn, which
            leaves as many, at the same angles. Another control are examples that harm nobody.
        seed: of that control.

    Raises:
        InputError: a strength below 0, a rank below 1, a direction that does not exist, or examples that are no pairs
            of texts.
    """

    strength: float = 1.0
    examples: Sequence[tuple[str, str]] | None = field(default=None, repr=False)
    rank: int = 8
    scaled: bool = False
    relative: bool = False
    direction: Literal["harmful", "random"] = "harmful"
    seed: int = 0
    name: str = field(default="harmful_direction", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset({"reference", "harmful"}), init=False, repr=False)

    def __post_init__(self) -> None:
        require_strength(self)
        require_words(self)
        if self.rank < 1:
            raise InputError(f"{self.name} keeps rank {self.rank} of each gradient; give a number of 1 or more.")
        if self.examples is not None:
            _require_pairs(self.examples)

    def guide(self, difference: Matrix, name: str) -> HarmfulGuide:
        """The directions of one weight, from its harmful step in fp32."""
        factor, energy = principal_factor(difference, self.rank)
        if self.direction == "random":
            factor = whole(shuffled_rows(factor, self.seed + crc32(name.encode())))
        return HarmfulGuide(orthonormal(factor), energy)

    def weight_penalty(self, update: Matrix, guide: HarmfulGuide) -> Float[Tensor, ""]:
        """‖U_k U_kᵀ ΔW‖² of one weight, which is ‖U_kᵀ ΔW‖²."""
        return squared_norm(left_times(Along(guide.basis), update))

    def describe(self, guides: Mapping[str, HarmfulGuide]) -> str:
        """How much of the harmful step the directions hold."""
        held = [guide.energy for guide in guides.values()]
        if self.direction == "random":
            return f"keeps updates off {self.rank} random directions of each weight"
        return (
            f"keeps updates off the {self.rank} main directions of each weight's first step towards its "
            f"{len(self.examples or ())} examples, which hold {min(held):.0%} to {max(held):.0%} of it"
        )


def _require_pairs(examples: Sequence[Any]) -> None:
    wanted = "give pairs of a harmful request and a compliant opening"
    if not examples:
        raise InputError(f"harmful_direction has no examples; {wanted}.")
    for each in examples:
        if not isinstance(each, list | tuple) or [*map(type, each)] != [str, str]:
            raise InputError(f"harmful_direction has the example {each!r}; {wanted}.")
