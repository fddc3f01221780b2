"""Parameter names as the original checkpoint has them, whatever wraps the model."""

import re

# DDP, DeepSpeed and PEFT wrap the whole model; further inside, `module` may be a name of the model's own.
_AROUND = re.compile(r"^(?:module|base_model\.model)\.")
# torch.compile, activation checkpointing, FSDP and PEFT also wrap single layers.
_WITHIN = re.compile(
    r"(?<![^.])(?:base_layer|_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|modules_to_save\.[^.]+)\."
)
_ADAPTER = re.compile(r"\.(lora_[A-Za-z_]+)\.(?!weight$|bias$)[^.]+(\.weight|\.bias|)$")


def plain_name(name: str) -> str:
    """The name of a parameter in its original checkpoint.

    `base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight` becomes
    `model.layers.0.self_attn.q_proj.weight`; the factors of an adapter keep their kind and lose the adapter's
    name: `….q_proj.lora_A.default.weight` becomes `….q_proj.lora_A.weight`.
    """
    previous = None
    while name != previous:
        previous, name = name, _AROUND.sub("", _WITHIN.sub("", name))
    return _ADAPTER.sub(r".\1\2", name)
