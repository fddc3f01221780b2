"""Where in a model a parameter stands: its layer, the kind of weight, and which factor of an adapter it is."""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from moored.errors import ModelError
from moored.huggingface.models.names import plain_name

_LAYER = re.compile(r"(?:^|\.)(\d+)\.")
_FACTOR = re.compile(r"\.lora_([AB])\b")
_KERNEL = 7
"""The longest kernel of a convolution."""
_KINDS = (
    (r"norm|\bln_", "layer norms"),
    (r"lm_head|embed_out", "head"),
    (r"\.(?:gate|router|shared_expert_gate)\.(?:weight|bias)$", "router"),
    (r"embed|wte|wpe", "embeddings"),
    (r"qkv|query_key_value|attn\.c_attn", "q, k, v"),
    (r"\bq_proj", "q"),
    (r"\bk_proj", "k"),
    (r"\bv_proj", "v"),
    (r"\bo_proj|attn\.(?:c_proj|out_proj|dense)", "o"),
    (r"gate_up_proj", "gate, up"),
    (r"gate_proj|\bw1\b", "gate"),
    (r"up_proj|\bw3\b|\bc_fc\b|\bfc1\b", "up"),
    (r"down_proj|\bw2\b|mlp\.c_proj|\bfc2\b", "down"),
)
"""A pattern in a parameter's name → the kind of weight; the first that is found counts."""
KINDS = (
    "embeddings",
    "embeddings, head",
    "layer norms",
    "q, k, v",
    "q",
    "k",
    "v",
    "o",
    "gate, up",
    "gate",
    "up",
    "down",
)
"""The kinds in the order in which they are shown; others, the head among them, come after."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a parameter stands."""

    layer: int | None
    """From 0; None outside the layers."""
    kind: str
    """One of `KINDS`, `head`, or the name of the module where that is not known."""
    factor: str | None = None
    """`A` or `B` in a LoRA adapter."""


def place_of(name: str) -> Place:
    """The place of a parameter by its plain name; a bias belongs to its weight."""
    layer, factor = _LAYER.search(name), _FACTOR.search(name)
    known = (kind for pattern, kind in _KINDS if re.search(pattern, name))
    module = re.sub(r"\.(?:weight|bias|lora_[A-Za-z_]+)\b", "", name).rpartition(".")[2]
    return Place(
        layer=None if layer is None else int(layer[1]),
        kind=next(known, module),
        factor=None if factor is None else factor[1],
    )


def places(model: nn.Module) -> dict[str, Place]:
    """The places of a model's trainable parameters by plain name; one matrix that is embedding and head is both."""
    found = {plain_name(name): place_of(plain_name(name)) for name, p in model.named_parameters() if p.requires_grad}
    get = getattr(model, "get_output_embeddings", lambda: None)
    head = getattr(get(), "weight", None)
    for name, parameter in model.named_parameters():
        plain = plain_name(name)
        if parameter is head and plain in found and found[plain].kind == "embeddings":
            found[plain] = Place(layer=None, kind="embeddings, head")
    return found


def is_stack(weight: Tensor) -> bool:
    """Whether a weight is a stack of matrices, such as experts are, and not the short kernel of a convolution."""
    return weight.ndim > 2 and min(weight.shape[-2:]) > _KERNEL


def refuse_stacked(name: str, weight: Tensor, advice: str) -> None:
    """What looks at the matrices inside layers must not pass over experts that are stacked in one tensor in silence.

    Args:
        name: the plain name.
        weight: short kernels of convolutions pass, which hybrid models have.
        advice: what to do instead, as an imperative.

    Raises:
        ModelError: the weight stands inside a layer and is a stack of matrices.
    """
    if is_stack(weight) and place_of(name).layer is not None:
        raise ModelError(
            f"{name} has {weight.ndim} axes, as stacked experts have; only matrices are looked at here, which would "
            f"leave out most of such a model; {advice}."
        )
