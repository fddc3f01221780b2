import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.adapters import LORA, save_adapter
from tests.tiny import KINDS, tiny_model, tiny_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel

from moored.errors import InputError, ModelError
from moored.huggingface.models import (
    check_fits,
    plain_name,
    read_adapter_config,
    refuse_lm_head,
    save_adapter_like,
    stack_adapters,
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
        ({"use_dora": True}, "DoRA"),
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


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_a_broken_configuration_is_named(tmp_path, content):
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json"):
        read_adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"adapter_config\.json is not valid JSON"):
        read_adapter_config(tmp_path)


def test_an_unknown_kind_of_adapter_is_one_sentence(tmp_path):
    save_adapter(tmp_path / "below")
    (tmp_path / "below" / "adapter_config.json").write_text('{"peft_type": "NEW_THING"}')
    with pytest.raises(ModelError, match="PEFT cannot read the configuration"):
        stack_adapters(tmp_path / "below", tmp_path / "below", tmp_path / "stack")


def test_the_non_empty_target_of_a_stack_is_refused(tmp_path):
    save_adapter(tmp_path / "below")
    with pytest.raises(InputError, match="not empty"):
        stack_adapters(tmp_path / "below", tmp_path / "below", tmp_path / "below")


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_fits_its_own_base(tmp_path, kind):
    check_fits(save_adapter(tmp_path / "adapter", kind, target_modules="all-linear"), tiny_model(kind))


def test_an_adapter_fits_layers_that_keep_their_weight_transposed(tmp_path):
    config = GPT2Config(vocab_size=16, n_positions=8, n_embd=4, n_layer=1, n_head=1)
    adapted = get_peft_model(GPT2LMHeadModel(config), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    adapted.save_pretrained(tmp_path / "adapter")
    check_fits(tmp_path / "adapter", GPT2LMHeadModel(config))
    with pytest.raises(ModelError, match="for another base"):
        check_fits(tmp_path / "adapter", GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=16)))


@pytest.mark.parametrize(
    ("target", "shapes"),
    [("q_proj", r"lora_A.weight is \(2, 16\).*q_proj is \(32, 32\)"), ("v_proj", r"lora_A.weight is \(2, 16\)")],
)
def test_the_shapes_of_a_misfit_are_named(tmp_path, target, shapes):
    adapter = save_adapter(tmp_path / "adapter", target_modules=[target])
    with pytest.raises(ModelError, match=f"for another base: model.layers.0.self_attn.{target}.{shapes}"):
        check_fits(adapter, tiny_model(hidden_size=32))


def test_a_second_factor_that_does_not_fit_is_named(tmp_path):
    adapter = save_adapter(tmp_path / "adapter", target_modules=["q_proj"])
    file = adapter / "adapter_model.safetensors"
    tensors = {name: t.repeat(2, 1) if "lora_B" in name else t for name, t in load_file(file).items()}
    save_file(tensors, file)
    with pytest.raises(ModelError, match=r"lora_B.weight is \(32, 2\), but the weight of .*q_proj is \(16, 16\)"):
        check_fits(adapter, tiny_model())


def test_a_module_that_the_base_lacks_is_named(tmp_path):
    adapter = save_adapter(tmp_path / "adapter")
    model = tiny_model()
    model.model.layers = model.model.layers[:1]
    with pytest.raises(ModelError, match=r"this model has no module model\.layers\.1\."):
        check_fits(adapter, model)


@pytest.mark.parametrize("settings", [{}, {"modules_to_save": ["lm_head"]}, {"use_dora": True}], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_adapter_is_written_as_it_was_read(tmp_path, dtype, settings):
    original = save_adapter(tmp_path / "original", dtype=dtype, base="org/base", **settings)
    tiny_tokenizer().save_pretrained(original)
    (original / "training_args.bin").write_bytes(b"a pickle")
    model = PeftModel.from_pretrained(tiny_model(), original, is_trainable=True)
    assert next(p for p in model.parameters() if p.requires_grad).dtype == torch.float32
    (tmp_path / "copy").mkdir()
    save_adapter_like(original, model, tmp_path / "copy")
    before, after = (load_file(each / "adapter_model.safetensors") for each in (original, tmp_path / "copy"))
    assert before.keys() == after.keys()
    for name in before:
        assert after[name].dtype == before[name].dtype == dtype and torch.equal(after[name], before[name])
    for name in ("adapter_config.json", "chat_template.jinja"):
        assert (tmp_path / "copy" / name).read_bytes() == (original / name).read_bytes()
    assert read_adapter_config(tmp_path / "copy")["base_model_name_or_path"] == "org/base"
    assert not (tmp_path / "copy" / "training_args.bin").exists()


def test_what_moved_is_what_is_written(tmp_path):
    original = save_adapter(tmp_path / "original", dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(tiny_model(), original, is_trainable=True)
    moved = {plain_name(name): p.data.add_(0.5) for name, p in model.named_parameters() if p.requires_grad}
    (tmp_path / "copy").mkdir()
    save_adapter_like(original, model, tmp_path / "copy")
    for name, tensor in load_file(tmp_path / "copy" / "adapter_model.safetensors").items():
        assert torch.equal(tensor, moved[plain_name(name)].to(torch.bfloat16))


def test_a_model_without_the_adapter_s_tensors_is_refused(tmp_path):
    original = save_adapter(tmp_path / "original", target_modules=[*LORA["target_modules"], "up_proj"])
    model = PeftModel.from_pretrained(tiny_model(), save_adapter(tmp_path / "other"))
    with pytest.raises(ModelError, match=r"The model in memory has no .*up_proj"):
        save_adapter_like(original, model, tmp_path)


@pytest.mark.parametrize("targets", ["lm_head", ["q_proj", "lm_head"], ["model.lm_head"]])
def test_the_output_head_is_no_target(targets):
    with pytest.raises(InputError, match="lm_head cannot be trained"):
        refuse_lm_head(targets)
    refuse_lm_head(["q_proj"])
    refuse_lm_head("all-linear")
    refuse_lm_head(None)
