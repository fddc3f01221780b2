"""The two halves of a causal language model: the backbone, and what turns its last hidden state into logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moored.errors import ModelError
from moored.tensors.output_head import Head

_checked: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""The checks that each model has passed."""


@dataclass(frozen=True)
class CausalModel:
    """A causal language model without its wrappers."""

    whole: Any
    backbone: nn.Module
    projection: nn.Module
    """The output head, a linear layer; PEFT may keep two copies, and this is the trained one."""
    scale: float = 1.0
    cap: float | None = None

    @property
    def weight(self) -> nn.Parameter:
        """The head's matrix, even while a proxy hides it."""
        weight = self.projection._parameters["weight"]
        assert weight is not None
        return weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The head's bias."""
        return self.projection._parameters.get("bias")

    @property
    def tied(self) -> bool:
        """Whether the backbone uses the head's matrix too, as its embedding does if the two are tied."""
        return any(each is self.weight for each in self.backbone.parameters())

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the head's products at this moment."""
        device = self.weight.device.type
        return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype

    def head(self) -> Head:
        """Returns the head with its present weights, detached."""
        bias = None if self.bias is None else self.bias.detach()
        return Head(self.weight.detach(), bias, self.scale, self.cap, self.dtype)


def split(model: nn.Module) -> CausalModel:
    """Finds backbone and output head below PEFT's, DDP's and the compiler's wrappers.

    Raises:
        ModelError: the model has no output head of its own, or one that does more than a linear layer.
    """
    whole: Any = _unwrapped(model)
    backbone = getattr(whole, "base_model", None)
    projection: Any = whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
    if isinstance(projection, ModulesToSaveWrapper):
        projection = projection.modules_to_save[projection.active_adapters[0]]
    if (
        not isinstance(backbone, nn.Module)
        or backbone is whole
        or getattr(type(projection), "forward", None) is not nn.Linear.forward
    ):
        raise ModelError(
            f"{type(whole).__name__} has no output head that is a plain linear layer, as gradient selection and safety "
            "tokens require; take LoRA off the output head, or leave them out."
        )
    config = whole.config.get_text_config()
    return CausalModel(whole, backbone, projection, _scale(config), getattr(config, "final_logit_softcapping", None))


def _unwrapped(model: nn.Module) -> nn.Module:
    if isinstance(model, DistributedDataParallel):
        return _unwrapped(model.module)
    if isinstance(model, torch._dynamo.OptimizedModule):
        return _unwrapped(model._orig_mod)
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _scale(config: Any) -> float:
    """The factor on the logits, under the names that model families have for it."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling) if config.model_type == "hyperclovax" else 1 / float(scaling)


def require_known(parts: CausalModel, input_ids: Tensor, *, packed: bool, after_forward: Callable[[], None]) -> None:
    """Checks, on a few tokens and once per model, that the model computes its logits as is assumed here.

    Raises:
        ModelError: the model's logits are not finite or differ from ours, as where a family scales them in an unknown
            way, or documents that are packed into one row see one another.
    """
    few = input_ids[:1, :8]
    if "logits" not in _checked.setdefault(parts.whole, set()):
        head = parts.head()
        expected = parts.whole(input_ids=few, use_cache=False).logits[0].detach().float()
        after_forward()
        if not expected.isfinite().all():
            raise ModelError(f"The logits of {type(parts.whole).__name__} are not finite; check its weights.")
        if not _close(head.logits(_states(parts, few), slice(0, len(head.weight))), expected, head.dtype):
            raise ModelError(
                f"{type(parts.whole).__name__} computes its logits in an unknown way; leave gradient selection and "
                "safety tokens out."
            )
        _checked[parts.whole].add("logits")
    documents = f"documents with {parts.whole.config._attn_implementation}"
    if packed and documents not in _checked[parts.whole]:
        twice = _states(parts, few.repeat(1, 2), torch.arange(few.shape[1], device=few.device).repeat(2)[None]).float()
        if not _close(twice[: few.shape[1]], twice[few.shape[1] :], parts.head().dtype):
            raise ModelError(
                f"{type(parts.whole).__name__} lets packed documents see one another with its present attention "
                "implementation; choose another one, or turn packing off."
            )
        _checked[parts.whole].add(documents)


def _states(parts: CausalModel, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    more = {} if position_ids is None else {"position_ids": position_ids}
    return parts.backbone(input_ids=input_ids, use_cache=False, **more).last_hidden_state[0].detach()


def _close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    coarse = torch.finfo(dtype).eps > 1e-4
    return torch.allclose(actual, expected, rtol=0, atol=float(expected.abs().max()) * (0.05 if coarse else 1e-4))
