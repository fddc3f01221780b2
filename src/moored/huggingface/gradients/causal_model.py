"""The two halves of a causal language model: the backbone, and what turns its last hidden state into logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn

from moored.errors import ModelError
from moored.huggingface.distributed.sharding import any_distributed
from moored.huggingface.models import unwrapped
from moored.tensors.output_head import Head

_checked: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""The checks that each model has passed."""
_FEW = 8
"""The number of tokens on which a model is checked."""
_READERS = "gradient selection, safety tokens and harmful_direction"


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


def split(model: nn.Module) -> CausalModel:
    """Finds backbone and output head below PEFT's, DDP's and the compiler's wrappers.

    Raises:
        ModelError: the model is not a decoder with an output head, or its head does more than a linear layer.
    """
    whole = unwrapped(model)
    projection = _output_head(whole)
    if isinstance(projection, ModulesToSaveWrapper):
        projection = projection.modules_to_save[projection.active_adapters[0]]
    if getattr(type(projection), "forward", None) is not nn.Linear.forward:
        raise ModelError(
            f"The output head of {type(whole).__name__} is not a plain linear layer, as {_READERS} require; take "
            "LoRA off the output head, or leave them out."
        )
    if any_distributed(whole.parameters()):
        raise ModelError(
            f"The weights of {type(whole).__name__} are sharded, and {_READERS} need them whole; load the model "
            "without distributed_config, or leave these safeguards out."
        )
    backbone = _backbone(whole)
    if backbone is None:
        raise ModelError(
            f"{type(whole).__name__} keeps its layers where {_READERS} do not find them; leave these safeguards out."
        )
    config = whole.config.get_text_config()
    return CausalModel(whole, backbone, projection, _scale(config), getattr(config, "final_logit_softcapping", None))


def _output_head(whole: Any) -> Any:
    """The layer that turns hidden states into logits of the next token."""
    kind = type(whole).__name__
    if getattr(getattr(whole, "config", None), "is_encoder_decoder", False):
        raise ModelError(
            f"{kind} is an encoder-decoder, and {_READERS} work with decoder-only language models; leave them out."
        )
    head = whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None
    if head is None:
        raise ModelError(
            f"{kind} has no output head that predicts tokens, as {_READERS} require; leave them out, or train a "
            "causal language model."
        )
    return head


def _backbone(whole: Any) -> nn.Module | None:
    """The layers below the head; Llama 4's text model names a prefix that it does not have, so `model` is tried too."""
    modules = (getattr(whole, "base_model", None), getattr(whole, "model", None))
    return next((module for module in modules if isinstance(module, nn.Module) and module is not whole), None)


def _scale(config: Any) -> float:
    """The factor on the logits, under the names that model families have for it."""
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        if getattr(config, name, None) is not None:
            return float(getattr(config, name))
    scaling = getattr(config, "logits_scaling", None)
    if scaling is None:
        return 1.0
    return float(scaling) if config.model_type == "hyperclovax" else 1 / float(scaling)


def known_head(parts: CausalModel, input_ids: Tensor, *, packed: bool, after_forward: Callable[[], None]) -> Head:
    """Returns the output head with its present weights, detached, after a check that it gives the model's own logits.

    Each check runs once per model, on a few tokens.

    Raises:
        ModelError: the model's logits are not finite or depend on later tokens, ours differ from them, as where a
            family scales them in an unknown way, or documents that are packed into one row see one another.
    """
    few = input_ids[:1, :_FEW]
    bias = None if parts.bias is None else parts.bias.detach()
    head = Head(parts.weight.detach(), bias, parts.scale, parts.cap, parts.dtype)
    require_causal(parts.whole, few, after_forward)
    known = _checked[parts.whole]
    if "logits" not in known:
        expected = _logits(parts.whole, few)
        if not _close(head.logits(_states(parts, few), slice(0, len(head.weight))), expected, head.dtype):
            raise ModelError(
                f"{type(parts.whole).__name__} computes its logits in an unknown way; leave {_READERS} out."
            )
        known.add("logits")
    documents = f"documents with {parts.whole.config._attn_implementation}"
    if packed and documents not in known:
        twice = _states(parts, few.repeat(1, 2), torch.arange(few.shape[1], device=few.device).repeat(2)[None]).float()
        if not _close(twice[: few.shape[1]], twice[few.shape[1] :], head.dtype):
            raise ModelError(
                f"{type(parts.whole).__name__} lets packed documents see one another with its present attention "
                "implementation; choose another one, or turn packing off."
            )
        known.add(documents)
    return head


def require_causal(model: nn.Module, input_ids: Tensor, after_forward: Callable[[], None] = lambda: None) -> None:
    """Checks, once per model, that it predicts each token from those before it.

    Raises:
        ModelError: it does not (an encoder-decoder, a masked language model, a classifier), or its logits are not
            finite.
    """
    whole = unwrapped(model)
    _output_head(whole)
    known = _checked.setdefault(whole, set())
    if "causal" in known:
        return
    few = input_ids[:1, :_FEW]
    logits = _logits(whole, few)
    after_forward()
    if not logits.isfinite().all():
        raise ModelError(f"The logits of {type(whole).__name__} are not finite; check its weights.")
    if not _is_causal(whole, few, logits):
        raise ModelError(
            f"In {type(whole).__name__} a token sees those after it, and {_READERS} work with causal language models; "
            "leave them out."
        )
    known.add("causal")


@torch.no_grad()
def require_next_tokens(model: nn.Module, input_ids: Tensor) -> None:
    """Raises ModelError, checked once per model, for one whose logits depend on later tokens."""
    whole = unwrapped(model)
    known = _checked.setdefault(whole, set())
    few = input_ids[:1, :_FEW]
    if not known & {"causal", "next tokens"} and not _is_causal(whole, few, _logits(whole, few)):
        raise ModelError(
            f"In {type(whole).__name__} a token sees those after it, so it has no answers of its own; name a causal "
            "language model."
        )
    known.add("next tokens")


def _is_causal(whole: Any, few: Tensor, logits: Tensor) -> bool:
    start = _logits(whole, few[:, : (few.shape[1] + 1) // 2])
    # What is not finite is refused elsewhere.
    return not logits.isfinite().all() or _close(start, logits[: len(start)], next(whole.parameters()).dtype)


def _logits(whole: Any, input_ids: Tensor) -> Tensor:
    return whole(input_ids=input_ids, use_cache=False).logits[0].detach().float()


def _states(parts: CausalModel, input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    more = {} if position_ids is None else {"position_ids": position_ids}
    return parts.backbone(input_ids=input_ids, use_cache=False, **more).last_hidden_state[0].detach()


def _close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    coarse = torch.finfo(dtype).eps > 1e-4
    return torch.allclose(actual, expected, rtol=0, atol=float(expected.abs().max()) * (0.05 if coarse else 1e-4))
