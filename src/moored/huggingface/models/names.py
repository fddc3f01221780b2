"""Parameter names as the original checkpoint has them, whatever wraps the model."""

import re

# Wrappers of PEFT, DDP, torch.compile and activation checkpointing, wherever they stand in the name.
_WRAPPERS = re.compile(
    r"(?<![^.])(?:base_model\.model|base_layer|module|_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\."
)
_LORA = re.compile(r"\.(lora_[A-Za-z_]+)\.[^.]+\.(weight|bias)$")


def plain_name(name: str) -> str:
    """The name of a parameter in its original checkpoint.

    `base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight` becomes
    `model.layers.0.self_attn.q_proj.weight`; the factors of an adapter keep their kind and lose the adapter's
    name: `….q_proj.lora_A.default.weight` becomes `….q_proj.lora_A.weight`.
    """
    previous = None
    while name != previous:
        previous, name = name, _WRAPPERS.sub("", name)
    return _LORA.sub(r".\1.\2", name)
