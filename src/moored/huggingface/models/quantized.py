"""Quantized checkpoints: whether they can be read here, which transformers' own quantizers know."""

from typing import Any

from torch import Tensor, nn
from transformers.quantizers.auto import get_hf_quantizer

from moored.errors import ModelError


def quantization(config: Any) -> Any:
    """Returns what a configuration says of the quantization of its checkpoint; None where there is none."""
    stated = getattr(config, "quantization_config", None)
    return stated or getattr(config.get_text_config(decoder=True), "quantization_config", None)


def holds_codes(model: nn.Module) -> bool:
    """Whether some weights in memory are codes rather than numbers."""
    return any(is_code(parameter) for parameter in model.parameters())


def is_code(weight: Tensor) -> bool:
    """Whether a tensor holds codes instead of numbers; 8-bit floats have their scales elsewhere, too."""
    is_plain = type(weight.data) is Tensor
    return not is_plain or not weight.is_floating_point() or weight.dtype.itemsize == 1


def require_readable_codes(config: Any, path: str) -> None:
    """Raises ModelError where a quantized checkpoint needs a package or a device that is not here."""
    if quantization(config) is None:
        return
    try:
        get_hf_quantizer(config, None, device_map=None, weights_only=True, user_agent={})
    except (ImportError, RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable_codes(error, path) from error


def unreadable_codes(error: Exception, path: str) -> ModelError:
    """Makes one sentence of why the weights of a quantized checkpoint cannot be read."""
    reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ") or type(error).__name__
    return ModelError(
        f"{path} is quantized and cannot be read here: {reason}; make that available, or name a checkpoint that is not "
        "quantized."
    )
