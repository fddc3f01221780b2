"""Proxies of trainable parameters, by which the layers of any model compute each sample's gradient norm.

Autograd only ever gives the *sum* of the samples' gradients of a parameter. To get the norm of each sample's, the
operation that uses the parameter must run as a custom autograd function whose backward pass looks at its inputs and
output gradients sample by sample. Rewriting the layers of every model family for that is hopeless. So the layer's own
code runs unchanged, but what it reads as `self.weight` is a `ParameterProxy`: a tensor subclass with the parameter's
data, on which `__torch_function__` intercepts whatever the layer calls with it (`F.linear`, `torch.mul`, …) and runs
the custom function instead. A call that has no custom function raises and names the parameter: a wrong norm is never
computed silently.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from moored.huggingface.gradients.autograd_functions import Broadcast, Dense, Lookup
from moored.huggingface.gradients.norm_accumulator import NormAccumulator, cannot_score


class ParameterProxy(Tensor):
    """What the layers read in place of a trainable parameter while a batch is scored."""

    parameter_name: str
    """The parameter's name."""
    accumulator: NormAccumulator
    origin: Tensor
    """The parameter, detached."""
    steps: tuple[Callable[[Tensor], Tensor], ...]
    """The elementwise operations that the layer has applied so far; Gemma's norms use 1 + w.

    They cannot be executed on the parameter itself: whether a sample or a position will need its own copy is known only
    when the result meets a tensor of the batch. `broadcast` then repeats them on the copies.
    """
    changed: bool
    """Whether a step changed more than the type."""

    @classmethod
    def of(cls, parameter: Tensor, name: str, accumulator: NormAccumulator) -> "ParameterProxy":
        """Makes a proxy that shares the parameter's data."""
        origin = parameter.detach()
        return cls._with(origin, name, accumulator, origin, (), False)

    @classmethod
    def _with(cls, value: Tensor, *fields: Any) -> "ParameterProxy":
        proxy = value.as_subclass(cls)
        proxy.parameter_name, proxy.accumulator, proxy.origin, proxy.steps, proxy.changed = fields
        return proxy

    def after(self, step: Callable[[Tensor], Tensor], changes: bool) -> "ParameterProxy":
        """Returns the proxy after one more elementwise step."""
        with torch._C.DisableTorchFunctionSubclass():
            value = step(self.as_subclass(Tensor))
        return self._with(
            value, self.parameter_name, self.accumulator, self.origin, (*self.steps, step), self.changed or changes
        )

    def transposed(self) -> "ParameterProxy":
        """Returns the transpose of a matrix; its gradient has the same norm."""
        plain = _plain(self)
        assert plain is not None
        return self._with(plain.mT, self.parameter_name, self.accumulator, plain.mT, (), False)

    def broadcast(self, shape: tuple[int, ...]) -> Tensor:
        """Returns a view of it in some shape, with all steps applied; its gradient is recorded sample by sample."""
        view: Any = Broadcast.apply(
            self.accumulator.graph_root, self.origin, shape, self.accumulator, self.parameter_name
        )
        for step in self.steps:
            view = step(view)
        return view

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the custom function for a torch function that was called with a proxy."""
        kwargs = kwargs or {}
        if func in _FORMULAS:
            return _FORMULAS[func](*args, **kwargs)
        if func in _ELEMENTWISE:
            return _elementwise(func, args, kwargs)
        if func in _DESCRIPTIONS:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        first = next(value for value in (*args, *kwargs.values()) if isinstance(value, ParameterProxy))
        raise cannot_score(first.parameter_name, f"no formula is known for {getattr(func, '__name__', func)}")


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    proxy = weight if isinstance(weight, ParameterProxy) else bias
    assert isinstance(proxy, ParameterProxy)
    accumulator, device = proxy.accumulator, x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    of = (_name(weight), _name(bias))
    return Dense.apply(accumulator.graph_root, x, _plain(weight), _plain(bias), accumulator, of)  # pyright: ignore[reportReturnType]


def _addmm(bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The operation of GPT-2's Conv1D, whose weight is transposed."""
    return _linear(x, weight.transposed() if isinstance(weight, ParameterProxy) else weight.mT, bias)


def _embedding(
    ids: Tensor,
    weight: ParameterProxy,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    if max_norm is not None or scale_grad_by_freq:
        raise cannot_score(weight.parameter_name, "its embedding has max_norm or scale_grad_by_freq")
    accumulator = weight.accumulator
    # A single row of position ids serves all rows of the batch; repeat it, for each sample has a gradient of its own.
    ids = ids.expand(accumulator.shape[0], -1) if ids.ndim == 2 and len(ids) == 1 else ids
    return Lookup.apply(accumulator.graph_root, ids, _plain(weight), padding_idx, accumulator, weight.parameter_name)  # pyright: ignore[reportReturnType]


def _layer_norm(
    x: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    normal = F.layer_norm(x, normalized_shape, None, None, eps)
    normal = normal if weight is None else normal * weight
    return (normal if bias is None else normal + bias).to(x.dtype)


def _rms_norm(x: Tensor, normalized_shape: Any, weight: Tensor, eps: float | None = None) -> Tensor:
    return (F.rms_norm(x, normalized_shape, None, eps) * weight).to(x.dtype)


def _elementwise(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Combines a proxy with numbers, which gives a proxy, or with a tensor of the batch, which gives a plain tensor."""
    tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    first = next(each for each in tensors if isinstance(each, ParameterProxy))
    others = [each for each in tensors if each is not first and (each.ndim or isinstance(each, ParameterProxy))]

    def step(value: Any) -> Tensor:
        return func(*[value if each is first else each for each in args], **kwargs)

    if func in _CASTS:
        # `x.type_as(w)` uses nothing of w but its type.
        return first.after(step, changes=False) if args[0] is first else step(_plain(first))
    if len(others) > 1 or any(isinstance(each, ParameterProxy) for each in others) or kwargs:
        raise cannot_score(first.parameter_name, f"no formula is known for this {func.__name__}")
    return (
        step(first.broadcast(_broadcast_shape(first, others[0].shape))) if others else first.after(step, changes=True)
    )


def _broadcast_shape(vector: ParameterProxy, shape: torch.Size) -> tuple[int, ...]:
    """The shape in which it meets a tensor of the batch, with one copy for each sample or for each position."""
    rows, columns = vector.accumulator.shape
    free = len(shape) - vector.ndim
    if free == 1 and shape[0] == rows * columns:
        return (rows * columns, *vector.shape)
    if free > 1 and vector.accumulator.rowwise and shape[0] == rows:
        return (rows, *[1] * (free - 1), *vector.shape)
    # An axis of attention heads can precede that of the positions.
    where = [axis for axis in range(1, free) if shape[axis] == columns]
    if shape[0] != rows or len(where) != 1:
        raise cannot_score(
            vector.parameter_name,
            f"it meets a tensor of shape {tuple(shape)}, in which the positions cannot be identified",
        )
    return (rows, *[columns if axis in where else 1 for axis in range(1, free)], *vector.shape)


def _plain(value: Tensor | None) -> Tensor | None:
    if not isinstance(value, ParameterProxy):
        return value
    if value.changed:
        raise cannot_score(value.parameter_name, "its layer changes it before using it")
    with torch._C.DisableTorchFunctionSubclass():
        return value.as_subclass(Tensor)


def _name(value: Tensor | None) -> str | None:
    return value.parameter_name if isinstance(value, ParameterProxy) else None


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
