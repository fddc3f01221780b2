"""Models without what is wrapped around them."""

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def without_adapter(model: nn.Module) -> Any:
    """Returns the model itself where PEFT has put an adapter over it; the adapter's layers stay in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def unwrapped(model: nn.Module) -> Any:
    """Returns the model itself, whatever of DDP, torch.compile and PEFT is around it."""
    if isinstance(model, DistributedDataParallel):
        return unwrapped(model.module)
    if isinstance(model, torch._dynamo.OptimizedModule):
        return unwrapped(model._orig_mod)
    return without_adapter(model)
