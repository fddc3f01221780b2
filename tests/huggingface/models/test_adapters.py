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
)


@pytest.mark.parametrize("content", ["{", "[1]", '"text"'])
def test_a_broken_configuration_is_named(tmp_path, content):
    with pytest.raises(ModelError, match=r"holds no adapter_config\.json"):
        read_adapter_config(tmp_path)
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"adapter_config\.json is not valid JSON"):
        read_adapter_config(tmp_path)


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
