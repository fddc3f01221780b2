"""Lets a model read stand-ins instead of its parameters for a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from torch import Tensor, nn

from moored.huggingface.gradients.norm_accumulator import Record, cannot_score
from moored.huggingface.gradients.parameter_proxy import StandIn


@contextmanager
def standing_in(model: nn.Module, names: dict[nn.Parameter, str], record: Record) -> Iterator[None]:
    """Lets every module of the model read stand-ins instead of the named parameters.

    A gradient that reaches a parameter itself, past its stand-in, raises InputError.
    """
    stand_ins = {parameter: StandIn.of(parameter, name, record) for parameter, name in names.items()}
    guards = [parameter.register_hook(_guard(name)) for parameter, name in names.items()]
    # An attribute of the instance comes before the module's own table of parameters, which stays as it is.
    shadows = [
        (module, key, stand_ins[parameter])
        for module in model.modules()
        for key, parameter in module._parameters.items()
        if parameter is not None and parameter in stand_ins
    ]
    try:
        for module, key, stand_in in shadows:
            module.__dict__[key] = stand_in
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
