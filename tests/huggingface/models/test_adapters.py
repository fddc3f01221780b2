import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.adapters import LORA, save_adapter
from tests.tiny import tiny_model, tiny_tokenizer

from moored.errors import InputError, ModelError
from moored.huggingface.models import plain_name, read_adapter_config, refuse_lm_head, save_adapter_like


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
