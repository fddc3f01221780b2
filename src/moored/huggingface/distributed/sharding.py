"""Sharded weights, of which each process holds only a part, as under FSDP and ZeRO stage 3: nothing reads them yet."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from moored.errors import InputError


def refuse_sharding_settings(settings: Mapping[str, Any]) -> None:
    """Refuses settings that would shard the weights of a run with safeguards, before anything is loaded.

    Args:
        settings: the settings of TrainingArguments that the user gave, by name.

    Raises:
        InputError: one of the settings shards the weights.
    """
    for name in ("fsdp", "fsdp_config", "deepspeed"):
        if settings.get(name):
            raise _refusal("Safeguards", f"leave out {name} or the safeguards")


def refuse_sharded_run(trainer: Any) -> None:
    """Refuses a trainer that shards its weights, whether its arguments or the launcher asked for it.

    Raises:
        InputError: FSDP or DeepSpeed is on.
    """
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise _refusal("Safeguards", "run without FSDP and DeepSpeed")


def refuse_sharded_parameters(parameters: Iterable[Tensor]) -> None:
    """Refuses to take per-row gradients of parameters of which this process holds only a part.

    Raises:
        InputError: one of the parameters is sharded.
    """
    parameters = [*parameters]
    if any_distributed(parameters) or any(hasattr(parameter, "ds_id") for parameter in parameters):
        raise _refusal("Per-row gradients", "run without FSDP and without ZeRO stage 3")


def any_distributed(parameters: Iterable[Tensor]) -> bool:
    """Whether some parameters are DTensors, as under FSDP2 or a `distributed_config`."""
    return any(isinstance(parameter, DTensor) for parameter in parameters)


def local_part(tensor: Tensor) -> Tensor:
    """Returns the part of a tensor that this process holds: all of it, unless it is a DTensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _refusal(subject: str, advice: str) -> InputError:
    return InputError(f"{subject} cannot read sharded weights yet; {advice}.")
