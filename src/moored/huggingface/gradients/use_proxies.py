"""Lets the layers of a model read proxies instead of its parameters for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from torch import Tensor, nn

from moored.huggingface.gradients.norm_accumulator import NormAccumulator, cannot_score
from moored.huggingface.gradients.parameter_proxy import ParameterProxy


@contextmanager
def parameter_proxies(model: nn.Module, names: dict[nn.Parameter, str], accumulator: NormAccumulator) -> Iterator[None]:
    """Lets every module of the model read proxies instead of the named parameters.

    A gradient that reaches a parameter itself, around its proxy, raises InputError: part of it would go uncounted.
    """
    proxies = {parameter: ParameterProxy.of(parameter, name, accumulator) for parameter, name in names.items()}
    guards = [parameter.register_hook(_guard(name)) for parameter, name in names.items()]
    # Python looks for an attribute in the instance's `__dict__` before it asks `nn.Module.__getattr__`, which reads the
    # table of parameters. So an entry there hides the parameter from the layer's code, while `parameters()`, DDP and
    # the optimizer, which read the table, see no change.
    shadows = [
        (module, key, proxies[parameter])
        for module in model.modules()
        for key, parameter in module._parameters.items()
        if parameter is not None and parameter in proxies
    ]
    try:
        for module, key, proxy in shadows:
            module.__dict__[key] = proxy
        yield
    finally:
        for module, key, _ in shadows:
            module.__dict__.pop(key, None)
        for guard in guards:
            guard.remove()


def _guard(name: str) -> Callable[[Tensor], NoReturn]:
    def refuse(gradient: Tensor) -> NoReturn:
        raise cannot_score(name, "a layer reads it in a way that cannot be followed")

    return refuse
