"""The running sums of one scored batch: each sample's squared gradient norm, added up parameter by parameter."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from moored.errors import InputError
from moored.tensors.gradient_squares import dense_squares, lookup_squares, summed_squares
from moored.tensors.samples import Samples, from_ids


def cannot_score(name: str, why: str) -> InputError:
    """The error for a parameter whose gradients cannot be computed sample by sample."""
    return InputError(f"{name} cannot be scored exactly: {why}; freeze it, or leave gradient selection out.")


class NormAccumulator:
    """Adds up squared norms while the backward pass delivers inputs and output gradients.

    Args:
        samples: which sample each position of the batch belongs to.
        shape: rows and columns of the batch.
        by_parameter: whether to keep the squares of each parameter as well as their sum.
    """

    def __init__(self, samples: Samples, shape: tuple[int, int], *, by_parameter: bool = False) -> None:
        device = samples.of.device
        self.samples, self.shape = samples, shape
        self.rowwise = samples.blocks[0].index is None
        """Whether each row is one sample."""
        self.squares = torch.zeros(samples.count, device=device)
        self.by_parameter: dict[str, Float[Tensor, " sample"]] | None = {} if by_parameter else None
        self.graph_root = torch.zeros((), device=device, requires_grad=True)
        """An input of every recorded function that requires a gradient.

        Without it autograd would skip the backward pass of a function in the first layer, where nothing else requires
        one: the parameters are detached.
        """
        self.seen: set[str] = set()
        self.head_rows: dict[str, list[Float[Tensor, "row dim"]]] = {}
        """For a head that shares the embedding's weight: each sample's gradient, at the sample's positions."""

    def add(self, name: str, squares: Float[Tensor, " sample"]) -> None:
        """Adds the squared norms of one parameter's whole gradient; a second call for it raises InputError."""
        if name in self.seen:
            raise cannot_score(name, "the forward pass uses it more than once")
        self.seen.add(name)
        self._count(name, squares)

    def _count(self, name: str, squares: Float[Tensor, " sample"]) -> None:
        self.squares += squares
        if self.by_parameter is not None:
            self.by_parameter[name] = self.by_parameter.get(name, 0) + squares

    def dense(self, name: str, inputs: Shaped[Tensor, "... in"], gradients: Shaped[Tensor, "... out"]) -> None:
        """Adds the weight of a dense layer."""
        self.add(name, dense_squares(self.samples, self.flat(inputs, name), self.flat(gradients, name)))

    def lookup(self, name: str, ids: Int[Tensor, "*position"], gradients: Shaped[Tensor, "*position dim"]) -> None:
        """Adds an embedding; where the output head shares its weight, with the cross term 2⟨lookup, head⟩.

        The gradient of a shared weight is the sum of the two parts, and |a + b|² = |a|² + |b|² + 2⟨a, b⟩. The head's
        |b|² has been added already; the lookup touches only the rows of the sample's own tokens, so the head's gradient
        is needed there alone.
        """
        flat = self.flat(gradients, name)
        squares = lookup_squares(self.samples, ids.flatten(), flat)
        if name in self.head_rows:
            pairs = zip(self.samples.positions(), self.head_rows.pop(name), strict=True)
            cross = torch.stack([(flat[places].float() * rows).sum() for places, rows in pairs])
            self._count(name, squares + 2 * cross)
        else:
            self.add(name, squares)

    def summed(self, name: str, gradients: Shaped[Tensor, "copy size"]) -> None:
        """Adds a bias, or the weight of a norm, of which every sample or every position has a copy."""
        if self.rowwise and len(gradients) == self.samples.count:
            self.add(name, gradients.float().square().sum(1))
        else:
            self.add(name, summed_squares(self.samples, gradients))

    def experts(self, name: str, of: Sequence[Tensor], inputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Adds the weights of a layer of experts, given per expert the sample of each row, its inputs and gradients."""
        count = self.samples.count
        parts = zip(of, inputs, gradients, strict=True)
        self.add(name, sum((dense_squares(from_ids(ids, count), x, g) for ids, x, g in parts), self.squares * 0))

    def expert_biases(self, name: str, of: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Adds the biases of a layer of experts."""
        count = self.samples.count
        parts = zip(of, gradients, strict=True)
        self.add(name, sum((summed_squares(from_ids(ids, count), g) for ids, g in parts), self.squares * 0))

    def flat(self, values: Shaped[Tensor, "... dim"], name: str) -> Shaped[Tensor, "position dim"]:
        """Flattens values to one row per position of the batch."""
        flattened = len(values) == self.shape[0] * self.shape[1] and "experts." not in name.replace("shared_expert", "")
        if values.ndim == 2 and flattened:
            return values
        if values.ndim == 4 and values.shape[1] == 1:
            values = values.squeeze(1)
        if values.ndim == 3 and values.shape[:2] == self.shape:
            return values.flatten(0, 1)
        actual, batch = "×".join(map(str, values.shape)), "×".join(map(str, self.shape))
        raise cannot_score(
            name, f"its layer gets a tensor of {actual}, which does not match the {batch} positions of the batch"
        )

    def require_all(self, names: Iterable[str]) -> None:
        """Raises InputError for parameters for which no gradient was recorded."""
        missing = sorted({*names} - self.seen | {*self.head_rows})
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InputError(
                f"The loss does not reach {', '.join(missing[:3])}{more} in a way that can be scored per sample; "
                "freeze what is not trained, or leave gradient selection out."
            )
