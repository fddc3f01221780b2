"""Operations that compute what they always do and, in the backward pass, record each sample's gradient norm.

They record from *saved tensors*, which is right under both kinds of gradient checkpointing: there a layer runs forward
twice, but backward once. Weights are passed in detached: no parameter gets a gradient, and nothing that waits for one
(DDP, hooks) is triggered. The first argument, `root`, makes autograd run the backward pass all the same.
"""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from moored.huggingface.gradients.norm_accumulator import NormAccumulator

Name = str | None
"""The name of a trained parameter, or None for a frozen one."""


class Dense(Function):
    """x ↦ Wx + b."""

    @staticmethod
    def forward(
        ctx: Any,
        root: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        accumulator: NormAccumulator,
        of: tuple[Name, Name],
    ) -> Tensor:
        """`of` names weight and bias."""
        ctx.accumulator, ctx.of = accumulator, of
        ctx.save_for_backward(x if of[0] else None, weight)
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records, and returns the gradient with respect to x only."""
        (gradient,), (x, weight), (weight_name, bias_name) = gradients, ctx.saved_tensors, ctx.of
        if weight_name:
            ctx.accumulator.dense(weight_name, x, gradient)
        if bias_name:
            ctx.accumulator.summed(bias_name, ctx.accumulator.flat(gradient, bias_name))
        by_x = gradient @ weight.to(gradient.dtype) if ctx.needs_input_grad[1] else None
        return None, by_x, None, None, None, None


class Lookup(Function):
    """Ids ↦ rows of an embedding; `padding` is the id whose row is not trained."""

    @staticmethod
    def forward(
        ctx: Any,
        root: Tensor,
        ids: Int[Tensor, "*position"],
        weight: Tensor,
        padding: int | None,
        accumulator: NormAccumulator,
        name: str,
    ) -> Tensor:
        """The rows."""
        ctx.accumulator, ctx.name, ctx.padding = accumulator, name, padding
        ctx.save_for_backward(ids)
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records; ids have no gradient to return."""
        (gradient,), (ids,) = gradients, ctx.saved_tensors
        if ctx.padding is not None:
            gradient = gradient.masked_fill((ids == ctx.padding)[..., None], 0)
        ctx.accumulator.lookup(ctx.name, ids, gradient)
        return None, None, None, None, None, None


class Broadcast(Function):
    """A vector ↦ a view with a copy for every sample or position.

    Each copy's gradient is then a sample's or a position's own, whatever operation uses the view next.
    """

    @staticmethod
    def forward(
        ctx: Any, root: Tensor, vector: Tensor, shape: tuple[int, ...], accumulator: NormAccumulator, name: str
    ) -> Tensor:
        """`shape` ends in the vector's own."""
        ctx.accumulator, ctx.name, ctx.size = accumulator, name, vector.numel()
        return vector.expand(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records; the vector is detached, so there is no gradient to return."""
        ctx.accumulator.summed(ctx.name, gradients[0].reshape(-1, ctx.size))
        return None, None, None, None, None


class ExpertDense(Function):
    """x ↦ Wₑx + bₑ, where each row has its own expert e; the rows are sorted by expert."""

    @staticmethod
    def forward(
        ctx: Any,
        root: Tensor,
        x: Shaped[Tensor, "row in"],
        weight: Shaped[Tensor, "expert out in"],
        bias: Shaped[Tensor, "expert out"] | None,
        position: Int[Tensor, " row"],
        counts: list[int],
        accumulator: NormAccumulator,
        of: tuple[Name, Name],
    ) -> Tensor:
        """`position` is the batch's position that a row comes from; `counts` are each expert's rows."""
        ctx.accumulator, ctx.of, ctx.counts = accumulator, of, counts
        ctx.save_for_backward(x if of[0] else None, weight, position)
        biases = [None] * len(counts) if bias is None else bias.to(x.dtype)
        parts = zip(x.split(counts), weight, biases, strict=True)
        return torch.cat([F.linear(rows, w.to(x.dtype), b) for rows, w, b in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records, and returns the gradient with respect to x only."""
        (gradient,), (x, weight, position), (weight_name, bias_name) = gradients, ctx.saved_tensors, ctx.of
        of = ctx.accumulator.samples.of[position].split(ctx.counts)
        split = gradient.split(ctx.counts)
        if weight_name:
            ctx.accumulator.experts(weight_name, of, x.split(ctx.counts), split)
        if bias_name:
            ctx.accumulator.expert_biases(bias_name, of, split)
        by_x = torch.cat([g @ w.to(g.dtype) for g, w in zip(split, weight, strict=True)])
        return None, by_x, None, None, None, None, None, None
