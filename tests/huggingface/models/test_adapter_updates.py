import json

import pytest
import torch
from peft import PeftModel
from tests.adapters import save_adapter
from tests.tiny import KINDS, tiny_model

from moored.errors import InputError, ModelError
from moored.huggingface.models import (
    adapter_updates,
    plain_name,
    read_adapter_config,
    stack_adapters,
    write_updates,
)

PROJECTIONS = ["q_proj", "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ONE_LAYER = {"layers_to_transform": [1], "layers_pattern": "layers"}


def _merged(model, *adapters):
    """The weights of a model after folding in one adapter after the other, by PEFT."""
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.state_dict()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("below", "above"),
    [
        pytest.param({}, {}, id="alike"),
        pytest.param({"r": 4}, {"r": 1, "lora_alpha": 1}, id="ranks"),
        pytest.param({}, {"target_modules": PROJECTIONS}, id="targets"),
        pytest.param({"target_modules": ["q_proj"]}, {"target_modules": ["up_proj"]}, id="no common target"),
        pytest.param({"use_rslora": True}, {"r": 3}, id="rslora below"),
        pytest.param({"r": 3}, {"r": 3, "use_rslora": True}, id="rslora above"),
        pytest.param({"alpha_pattern": {"v_proj": 1}}, {"alpha_pattern": {"layers.0.mlp.down_proj": 7}}, id="alphas"),
        pytest.param(
            {"rank_pattern": {"v_proj": 5}}, {"rank_pattern": {"layers.1.mlp.down_proj": 3}}, id="ranks apart"
        ),
        pytest.param({"alpha_pattern": {r"layers\.[01]\.self_attn\.(q|v)_proj": 9}}, {}, id="regular expression"),
        pytest.param(ONE_LAYER, {}, id="one layer below"),
        pytest.param({}, ONE_LAYER, id="one layer above"),
        pytest.param({"target_modules": "all-linear"}, {"target_modules": r".*\.(q|up)_proj"}, id="patterns"),
    ],
)
def test_the_stack_is_the_sum(tmp_path, kind, below, above):
    """Second computation: PEFT merges one after the other, and merges the stack alone."""
    save_adapter(tmp_path / "below", kind, seed=1, base="org/base", **below)
    save_adapter(tmp_path / "above", kind, seed=2, base="elsewhere", **above)
    stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")
    expected = _merged(tiny_model(kind), tmp_path / "below", tmp_path / "above")
    found = _merged(tiny_model(kind), tmp_path / "stack")
    plain = tiny_model(kind).state_dict()
    assert any(not torch.allclose(expected[name], plain[name], atol=1e-2) for name in plain)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-6)
    assert read_adapter_config(tmp_path / "stack")["base_model_name_or_path"] == "org/base"


def test_the_stack_touches_the_modules_of_its_parts_alone(tmp_path):
    save_adapter(tmp_path / "below", target_modules=["q_proj"], **ONE_LAYER)
    save_adapter(tmp_path / "above", target_modules=["v_proj"], **ONE_LAYER)
    stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")
    model = PeftModel.from_pretrained(tiny_model(), tmp_path / "stack")
    loaded = {plain_name(name) for name, _ in model.named_parameters() if ".lora_" in name}
    assert loaded == {f"model.layers.1.self_attn.{p}_proj.lora_{ab}.weight" for p in "qv" for ab in "AB"}


def test_the_precision_of_the_parts_survives_the_scales(tmp_path):
    """A third times a bf16 number is no bf16 number."""
    save_adapter(tmp_path / "below", seed=1, dtype=torch.bfloat16, r=3, lora_alpha=1)
    save_adapter(tmp_path / "above", seed=2, dtype=torch.bfloat16, r=3, lora_alpha=1)
    stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")
    expected = _merged(tiny_model(), tmp_path / "below", tmp_path / "above")
    found = _merged(tiny_model(), tmp_path / "stack")
    assert all(torch.allclose(found[name], expected[name], rtol=0, atol=1e-6) for name in expected)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "lm_head.weight"),
        pytest.param(
            {"lora_bias": True, "kind": "qwen2", "target_modules": ["q_proj"]},
            "lora_B.bias",
            # PEFT takes the bias for a factor of the wrong shape.
            marks=pytest.mark.filterwarnings("ignore:.*invalid shape"),
        ),
        ({"bias": "all", "kind": "qwen2"}, "q_proj.bias"),
        ({"target_modules": ["embed_tokens", "q_proj"]}, "lora_embedding_A"),
    ],
)
@pytest.mark.parametrize("place", ["below", "above"])
def test_what_is_more_than_two_factors_is_refused(tmp_path, settings, found, place):
    for each in ("below", "above"):
        save_adapter(tmp_path / each, **(settings if each == place else {"kind": settings.get("kind", "llama")}))
    with pytest.raises(ModelError, match=rf"{place} is more than a plain LoRA \(.*{found}"):
        stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")
    assert not (tmp_path / "stack").exists()


def _edit_config(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_initialization_that_changed_the_base_is_refused(tmp_path):
    save_adapter(tmp_path / "below")
    save_adapter(tmp_path / "above")
    _edit_config(tmp_path / "above", init_lora_weights="pissa_niter_4")
    with pytest.raises(ModelError, match="initialized by pissa_niter_4"):
        stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")


def test_another_kind_of_adapter_is_refused(tmp_path):
    save_adapter(tmp_path / "below")
    save_adapter(tmp_path / "above")
    other = {"peft_type": "IA3", "target_modules": ["q_proj"], "feedforward_modules": []}
    (tmp_path / "above" / "adapter_config.json").write_text(json.dumps(other))
    with pytest.raises(ModelError, match="IA3"):
        stack_adapters(tmp_path / "below", tmp_path / "above", tmp_path / "stack")


def test_an_unknown_kind_of_adapter_is_one_sentence(tmp_path):
    save_adapter(tmp_path / "below")
    (tmp_path / "below" / "adapter_config.json").write_text('{"peft_type": "NEW_THING"}')
    with pytest.raises(ModelError, match=r"names the peft_type NEW_THING, which PEFT .* does not know"):
        stack_adapters(tmp_path / "below", tmp_path / "below", tmp_path / "stack")


def test_the_non_empty_target_of_a_stack_is_refused(tmp_path):
    save_adapter(tmp_path / "below")
    with pytest.raises(InputError, match="not empty"):
        stack_adapters(tmp_path / "below", tmp_path / "below", tmp_path / "below")


@pytest.mark.parametrize("kind", KINDS)
def test_updates_are_what_peft_adds_to_the_weights(tmp_path, kind):
    save_adapter(tmp_path / "adapter", kind, use_rslora=True, alpha_pattern={"v_proj": 1})
    merged, plain = _merged(tiny_model(kind), tmp_path / "adapter"), tiny_model(kind).state_dict()
    updates = adapter_updates(tmp_path / "adapter")
    assert {f"{module}.weight" for module in updates} == {name for name in plain if not plain[name].equal(merged[name])}
    for module, update in updates.items():
        name = f"{module}.weight"
        torch.testing.assert_close(update.whole(), merged[name] - plain[name], rtol=1e-5, atol=1e-6)


def test_written_updates_are_read_again(tmp_path):
    updates = adapter_updates(save_adapter(tmp_path / "adapter", base="org/base", rank_pattern={"v_proj": 5}))
    (tmp_path / "out").mkdir()
    write_updates(updates, tmp_path / "out", like=tmp_path / "adapter")
    again = adapter_updates(tmp_path / "out")
    assert updates.keys() == again.keys()
    assert all(again[name].a.equal(each.a) and again[name].b.equal(each.b) for name, each in updates.items())
    assert read_adapter_config(tmp_path / "out")["base_model_name_or_path"] == "org/base"
