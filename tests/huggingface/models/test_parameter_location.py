import pytest
from peft import get_peft_model
from tests.huggingface.gradients.models import FAMILIES, lora_config, make

from moored.huggingface.models import place_of, places
from moored.huggingface.models.parameter_location import KINDS, Place


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_of_every_family_is_known(family: str):
    model = make(family)
    found = places(model)
    assert {each.kind for each in found.values()} <= {*KINDS, "head", "router"}
    assert {each.layer for each in found.values()} == {None, 0, 1}
    assert len(found) == len(list(model.named_parameters()))


@pytest.mark.parametrize(
    ("name", "layer", "kind", "factor"),
    [
        ("model.layers.11.self_attn.q_proj.weight", 11, "q", None),
        ("model.layers.3.self_attn.k_proj.bias", 3, "k", None),
        ("model.layers.3.self_attn.v_proj.lora_A.weight", 3, "v", "A"),
        ("model.layers.0.mlp.down_proj.lora_B.weight", 0, "down", "B"),
        ("model.layers.0.self_attn.q_norm.weight", 0, "layer norms", None),
        ("model.layers.0.post_attention_layernorm.weight", 0, "layer norms", None),
        ("model.layers.0.mlp.gate_proj.weight", 0, "gate", None),
        ("model.layers.0.mlp.gate.weight", 0, "router", None),
        ("model.layers.0.mlp.experts.gate_up_proj", 0, "gate, up", None),
        ("transformer.h.1.attn.c_attn.weight", 1, "q, k, v", None),
        ("transformer.h.1.attn.c_proj.weight", 1, "o", None),
        ("transformer.h.1.mlp.c_proj.bias", 1, "down", None),
        ("model.embed_tokens.weight", None, "embeddings", None),
        ("model.norm.weight", None, "layer norms", None),
        ("lm_head.weight", None, "head", None),
        ("model.layers.2.mixer.conv.weight", 2, "conv", None),
    ],
)
def test_a_name_tells_the_place(name: str, layer: int | None, kind: str, factor: str | None):
    assert place_of(name) == Place(layer=layer, kind=kind, factor=factor)


def test_one_matrix_that_is_embedding_and_head_is_called_both():
    assert places(make("gemma"))["model.embed_tokens.weight"].kind == "embeddings, head"
    assert {"embeddings", "head"} <= {each.kind for each in places(make("llama")).values()}


def test_under_an_adapter_its_factors_alone_are_trained():
    found = places(get_peft_model(make("llama"), lora_config("llama")))
    assert {each.factor for each in found.values()} == {"A", "B"}
    assert {each.kind for each in found.values()} == {"q", "k", "v", "o", "gate", "up", "down"}
