"""AsFT: updates may follow the direction in which alignment moved the weights, and pay for leaving it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor

from moored.errors import InputError
from moored.regularizers._interface import require_strength, require_words
from moored.tensors.column_space import (
    Complement,
    largest_eigenvalue,
    orthonormal,
    principal_factor,
    published_factor,
)
from moored.tensors.low_rank import Matrix, beside, cast, in_host_memory, inner, left_times, shuffled_rows, squared_norm


@dataclass(frozen=True)
class Guide:
    """What one weight's penalty needs of its direction d."""

    factor: Float[Tensor, "out m"] | None
    """F of the operator I − F Fᵀ, or None for the flattened form."""
    unit: Matrix | None
    """d / ‖d‖, for the flattened form."""
    energy: float
    """The share of ‖d‖² that was kept."""
    eigenvalue: float
    """The largest of F Fᵀ."""
    norm: float
    """‖d‖; 0 where alignment left the weight as it was, so that there is no direction to follow."""


@dataclass(frozen=True, kw_only=True)
class AlignmentDirection:
    """λ Σ ‖(I − Ĉ) ΔW‖², with Ĉ from d = aligned − base (AsFT, arXiv 2506.08473, equations 2–4).

    The paper's Ĉ is the projector on the columns of d, which is the identity wherever d has full rank; its code takes
    Ĉ = d dᵀ/‖d‖ and the bare BA of a LoRA, and so do we by default. A weight that alignment left as it was has no
    direction: all of its update costs (our choice). The other forms and the control are our choice, too.

    Args:
        strength: λ, ≥ 0; 0 is off.
        base: the checkpoint that the model was aligned from, a folder or a Hub id.
        adapter: the LoRA folder that makes the aligned model of `base`, where one does; d is then its two factors, and
            no file of the base is read.
        form: `published`; `projector`: Ĉ = U_k U_kᵀ of the `rank` largest singular values of d; `flattened`: one
            direction for the whole matrix, ‖ΔW‖² − ⟨ΔW, d⟩²/‖d‖².
        rank: k, ≥ 1; with `published` it keeps that many singular values of d, by default all.
        scaled: whether a LoRA's ΔW is (α/r) BA, as the model sees it, or the bare BA.
        relative: whether `strength` is the norm of the penalty's gradient over that of the loss's, on the guarded
            weights and step by step, in place of λ (our choice).
        direction: `random` is the control: d with its rows shuffled and their signs drawn, which keeps its norm and
            its singular values.
        seed: of that control.
        precision: in which d is kept and, but for `flattened`, multiplied; ΔW, the difference and the sum are fp32.
        offload: whether d stays in the host's memory and comes to each weight's device when its turn is, once per
            optimizer step; it is for models whose d, as large as the guarded weights, has no room beside them.

    Raises:
        InputError: a strength below 0, a form, direction or precision that does not exist, no base, or a rank that
            does not fit the form.
    """

    strength: float = 1.0
    base: str | None = None
    adapter: str | None = None
    form: Literal["published", "projector", "flattened"] = "published"
    rank: int | None = None
    scaled: bool = False
    relative: bool = False
    direction: Literal["aligned", "random"] = "aligned"
    seed: int = 0
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    offload: bool = False
    name: str = field(default="alignment_direction", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset({"reference", "base"}), init=False, repr=False)

    def __post_init__(self) -> None:
        require_strength(self)
        require_words(self)
        if self.base is None:
            raise InputError(
                f"{self.name} needs base, the checkpoint that the model was aligned from; name it, or use "
                "harmful_direction, which needs none."
            )
        if self.rank is None and self.form == "projector":
            raise InputError(f"{self.name} with form: projector needs rank, the number of directions to keep.")
        if self.rank is not None and (self.form == "flattened" or self.rank < 1):
            raise InputError(f"{self.name} cannot have rank {self.rank} with form: {self.form}; leave it out.")

    def guide(self, difference: Matrix, name: str) -> Guide:
        """The operator of one weight, from its difference d in fp32."""
        dtype = getattr(torch, self.precision)
        d = shuffled_rows(difference, self.seed + crc32(name.encode())) if self.direction == "random" else difference
        norm = float(squared_norm(d).sqrt())
        if self.form == "flattened":
            unit = cast(left_times(lambda columns: columns / norm, d), dtype) if norm else None
            return Guide(None, unit if unit is None else self._kept(unit), 1.0, 1.0, norm)
        factor, energy = published_factor(d), 1.0
        if self.rank is not None:
            factor, energy = principal_factor(d, self.rank)
            factor = orthonormal(factor) if self.form == "projector" else factor / max(norm, 1e-30) ** 0.5
        return Guide(self._kept(factor.to(dtype)), None, energy, largest_eigenvalue(factor), norm)

    def _kept(self, matrix: Any) -> Any:
        return in_host_memory(matrix) if self.offload else matrix

    def weight_penalty(self, update: Matrix, guide: Guide) -> Float[Tensor, ""]:
        """‖(I − Ĉ) ΔW‖² of one weight."""
        if guide.factor is not None:
            factor: Any = beside(update, guide.factor)
            return squared_norm(left_times(Complement(factor), update))
        if guide.unit is None:
            return squared_norm(update)
        # Where ΔW lies along d, this is a small difference of large numbers: bf16 would leave nothing of it.
        return squared_norm(update) - inner(update, cast(beside(update, guide.unit), torch.float32)).square()

    def describe(self, guides: Mapping[str, Guide]) -> str:
        """How many weights have no direction, what was kept of d, and whether Ĉ punishes what it should spare."""
        led = {name: guide for name, guide in guides.items() if guide.norm}
        if not led:
            raise InputError(
                f"{self.name} finds no direction: the model's weights all equal those of the base {self.base}; "
                "name the checkpoint before alignment."
            )
        drawn = "a random direction like " if self.direction == "random" else ""
        told = [f"follows {drawn}aligned − base in {len(led)} of them"]
        if len(led) < len(guides):
            told.append(f"in the other {len(guides) - len(led)} the two are equal, and all of the update costs")
        if self.rank is not None:
            least = min(guide.energy for guide in led.values())
            told.append(f"the {self.rank} directions kept hold at least {least:.0%} of what alignment changed there")
        if self.form == "projector":
            told += self._spared(guides)
        if self.form == "published":
            told.append(self._eigenvalues(led))
        return "; ".join(told)

    def _spared(self, guides: Mapping[str, Guide]) -> list[str]:
        """Lists the weights whose every update lies in the directions that are kept."""
        factors = [guide.factor for guide in guides.values() if guide.factor is not None]
        spared = sum(factor.shape[1] >= len(factor) for factor in factors)
        if spared == len(guides):
            raise InputError(
                f"{self.name} with rank {self.rank} keeps as many directions as the weights have, so that no update "
                "costs anything; give a smaller rank."
            )
        return [f"in {spared} of them these are all there are, and no update costs"] if spared else []

    def _eigenvalues(self, guides: Mapping[str, Guide]) -> str:
        name = max(guides, key=lambda each: guides[each].eigenvalue)
        above = sum(guide.eigenvalue > 2 for guide in guides.values())
        told = f"the largest eigenvalue of its operator Ĉ is {guides[name].eigenvalue:.2f} ({name})"
        if not above or self.direction == "random":
            return told
        return (
            f"WARNING: {told}, and above 2 in {above} weights, where this form punishes the direction of alignment "
            "more than what leaves it; form: projector does not"
        )
