"""Stand-ins for trainable parameters: whatever torch function meets one picks the formula for its gradient.

A layer's own code runs unchanged, only the parameter that it reads is another tensor. A function without a formula
raises and names the parameter.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moored.huggingface.gradients.autograd_functions import Dense, Lookup, Spread
from moored.huggingface.gradients.norm_accumulator import Record, cannot_score


class StandIn(Tensor):
    """A trainable parameter, as the layers see it while a batch is scored."""

    called: str
    """The parameter's name."""
    record: Record
    origin: Tensor
    """The parameter, detached."""
    steps: tuple[Callable[[Tensor], Tensor], ...]
    """What the layer did to it so far, elementwise: Gemma's norms read 1 + w."""
    changed: bool
    """Whether a step did more than to change its type."""

    @classmethod
    def of(cls, parameter: Tensor, name: str, record: Record) -> "StandIn":
        """A stand-in without a copy of the data."""
        origin = parameter.detach()
        return cls._made(origin, name, record, origin, (), False)

    @classmethod
    def _made(cls, value: Tensor, *fields: Any) -> "StandIn":
        made = value.as_subclass(cls)
        made.called, made.record, made.origin, made.steps, made.changed = fields
        return made

    def then(self, step: Callable[[Tensor], Tensor], changes: bool) -> "StandIn":
        """The stand-in after one more elementwise step."""
        with torch._C.DisableTorchFunctionSubclass():
            value = step(self.as_subclass(Tensor))
        return self._made(value, self.called, self.record, self.origin, (*self.steps, step), self.changed or changes)

    def transposed(self) -> "StandIn":
        """A matrix the other way round; its gradient has the same norm."""
        plain = _plain(self)
        assert plain is not None
        return self._made(plain.mT, self.called, self.record, plain.mT, (), False)

    def spread(self, shape: tuple[int, ...]) -> Tensor:
        """As many of it as the shape says, with all steps done; their gradients are recorded by sample."""
        spread: Any = Spread.apply(self.record.anchor, self.origin, shape, self.record, self.called)
        for step in self.steps:
            spread = step(spread)
        return spread

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Dispatches to the formula."""
        kwargs = kwargs or {}
        if func in _FORMULAS:
            return _FORMULAS[func](*args, **kwargs)
        if func in _ELEMENTWISE:
            return _elementwise(func, args, kwargs)
        if func in _DESCRIPTIONS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        first = next(each for each in (*args, *kwargs.values()) if isinstance(each, StandIn))
        raise cannot_score(first.called, f"no formula is known for {getattr(func, '__name__', func)}")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    stand_in = weight if isinstance(weight, StandIn) else bias
    assert isinstance(stand_in, StandIn)
    record, device = stand_in.record, x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    of = (_name(weight), _name(bias))
    return Dense.apply(record.anchor, x, _plain(weight), _plain(bias), record, of)  # pyright: ignore[reportReturnType]


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """GPT-2's Conv1D, whose weight lies the other way round."""
    return _linear(x, weight.transposed() if isinstance(weight, StandIn) else weight.mT, bias)


def _embedding(
    ids: Tensor,
    weight: StandIn,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    if max_norm is not None or scale_grad_by_freq:
        raise cannot_score(weight.called, "its embedding has max_norm or scale_grad_by_freq")
    record = weight.record
    # One row of position ids serves all rows of the batch; each sample needs a gradient of its own.
    ids = ids.expand(record.shape[0], -1) if ids.ndim == 2 and len(ids) == 1 else ids
    return Lookup.apply(record.anchor, ids, _plain(weight), padding_idx, record, weight.called)  # pyright: ignore[reportReturnType]


def _layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    normal = F.layer_norm(x, normalized_shape, None, None, eps)
    normal = normal if weight is None else normal * weight
    return (normal if bias is None else normal + bias).to(x.dtype)


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor, eps: float | None = None) -> Tensor:
    return (F.rms_norm(x, normalized_shape, None, eps) * weight).to(x.dtype)


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """With numbers only it stays a stand-in; with a tensor of the batch it is spread out over the samples."""
    tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    first = next(each for each in tensors if isinstance(each, StandIn))
    others = [each for each in tensors if each is not first and (each.ndim or isinstance(each, StandIn))]

    def step(value: Any) -> Tensor:
        return func(*[value if each is first else each for each in args], **kwargs)

    if func in _CASTS:
        # `x.type_as(w)` reads no more of w than its type.
        return first.then(step, changes=False) if args[0] is first else step(_plain(first))
    if len(others) > 1 or any(isinstance(each, StandIn) for each in others) or kwargs:
        raise cannot_score(first.called, f"no formula is known for this {func.__name__}")
    return step(first.spread(_spread(first, others[0].shape))) if others else first.then(step, changes=True)


def _spread(vector: StandIn, shape: torch.Size) -> tuple[int, ...]:
    """The shape in which it meets a tensor of the batch: one copy for each sample, or for each position."""
    rows, columns = vector.record.shape
    free = len(shape) - vector.ndim
    if free == 1 and shape[0] == rows * columns:
        return (rows * columns, *vector.shape)
    if free > 1 and vector.record.rowwise and shape[0] == rows:
        return (rows, *[1] * (free - 1), *vector.shape)
    # A head's axis can stand before that of the positions.
    where = [axis for axis in range(1, free) if shape[axis] == columns]
    if shape[0] != rows or len(where) != 1:
        raise cannot_score(vector.called, f"it meets a tensor of shape {tuple(shape)}, whose positions cannot be told")
    return (rows, *[columns if axis in where else 1 for axis in range(1, free)], *vector.shape)


def _plain(value: Tensor | None) -> Tensor | None:
    if not isinstance(value, StandIn):
        return value
    if value.changed:
        raise cannot_score(value.called, "its layer changes it before it uses it")
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)


def _name(value: Tensor | None) -> str | None:
    return value.called if isinstance(value, StandIn) else None


_FORMULAS: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    torch.addmm: _addmm,
    F.embedding: _embedding,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
}
_CASTS = {Tensor.to, Tensor.type_as, Tensor.type, Tensor.float, Tensor.half, Tensor.bfloat16}
_ELEMENTWISE = _CASTS | {
    *(Tensor.mul, Tensor.add, Tensor.sub, Tensor.div, Tensor.neg, Tensor.exp, Tensor.__rsub__, Tensor.__rdiv__),
    *(torch.mul, torch.add, torch.sub, torch.div, torch.neg, torch.exp),
}
_DESCRIPTIONS = {
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "layout", "is_cuda", "is_meta")),
    *(Tensor.requires_grad.__get__, Tensor.is_quantized.__get__, Tensor.size, Tensor.dim, Tensor.numel),  # pyright: ignore
    *(Tensor.__len__, Tensor.is_floating_point, Tensor.is_contiguous, Tensor.stride, Tensor.element_size),
}
