"""Layers that compute what they always do and, in the backward pass, record each sample's gradient.

What they record comes from *saved tensors*, so that it is right under gradient checkpointing of either kind: a layer
runs twice there, but its backward pass once. Weights come in detached: no parameter gets a gradient, and nothing waits
for one (DDP, hooks). The anchor is what the graph hangs on instead.
"""

from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from moored.huggingface.gradients.norm_accumulator import Record

Name = str | None
"""A parameter's name where it is trained, else None."""


class Dense(Function):
    """x ↦ Wx + b."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, record: Record, of: tuple[Name, Name]
    ) -> Tensor:
        """`of` names weight and bias."""
        ctx.record, ctx.of = record, of
        ctx.save_for_backward(x if of[0] else None, weight)
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records, and passes on the gradient by x alone."""
        (gradient,), (x, weight), (weight_name, bias_name) = gradients, ctx.saved_tensors, ctx.of
        if weight_name:
            ctx.record.dense(weight_name, x, gradient)
        if bias_name:
            ctx.record.summed(bias_name, ctx.record.flat(gradient, bias_name))
        by_x = gradient @ weight.to(gradient.dtype) if ctx.needs_input_grad[1] else None
        return None, by_x, None, None, None, None


class Lookup(Function):
    """Ids ↦ rows of an embedding; `padding` is the id whose row is not trained."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        ids: Int[Tensor, "row column"],
        weight: Tensor,
        padding: int | None,
        record: Record,
        name: str,
    ) -> Tensor:
        """The rows."""
        ctx.record, ctx.name, ctx.padding = record, name, padding
        ctx.save_for_backward(ids)
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records; ids have no gradient."""
        (gradient,), (ids,) = gradients, ctx.saved_tensors
        if ctx.padding is not None:
            gradient = gradient.masked_fill((ids == ctx.padding)[..., None], 0)
        ctx.record.lookup(ctx.name, ids, gradient)
        return None, None, None, None, None, None


class Spread(Function):
    """A vector ↦ views of it for every sample or position, so that what multiplies or adds it need not be known."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, vector: Tensor, shape: tuple[int, ...], record: Record, name: str) -> Tensor:
        """`shape` ends in the vector's own."""
        ctx.record, ctx.name, ctx.size = record, name, vector.numel()
        return vector.expand(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records; there is nothing to pass on."""
        ctx.record.summed(ctx.name, gradients[0].reshape(-1, ctx.size))
        return None, None, None, None, None


class ExpertDense(Function):
    """x ↦ Wₑx + bₑ, each row by its own expert; the rows come sorted by expert."""

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        x: Shaped[Tensor, "row in"],
        weight: Shaped[Tensor, "expert out in"],
        bias: Shaped[Tensor, "expert out"] | None,
        position: Int[Tensor, " row"],
        counts: list[int],
        record: Record,
        of: tuple[Name, Name],
    ) -> Tensor:
        """`position` is the batch's position that a row comes from; `counts` are each expert's rows."""
        ctx.record, ctx.of, ctx.counts = record, of, counts
        ctx.save_for_backward(x if of[0] else None, weight, position)
        biases = [None] * len(counts) if bias is None else bias.to(x.dtype)
        parts = zip(x.split(counts), weight, biases, strict=True)
        return torch.cat([F.linear(rows, w.to(x.dtype), b) for rows, w, b in parts])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Records, and passes on the gradient by x alone."""
        (gradient,), (x, weight, position), (weight_name, bias_name) = gradients, ctx.saved_tensors, ctx.of
        of = ctx.record.samples.of[position].split(ctx.counts)
        split = gradient.split(ctx.counts)
        if weight_name:
            ctx.record.experts(weight_name, of, x.split(ctx.counts), split)
        if bias_name:
            ctx.record.expert_biases(bias_name, of, split)
        by_x = torch.cat([g @ w.to(g.dtype) for g, w in zip(split, weight, strict=True)])
        return None, by_x, None, None, None, None, None, None
