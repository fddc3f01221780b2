import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny import save_tiny

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, checkpoint, load, load_model, load_tokenizer, weights


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "model")


def _change(folder, name, change):
    """Rewrites one tensor of a checkpoint."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors[name] = change(tensors[name])
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(model, bad):
    _change(model, "model.layers.1.mlp.up_proj.weight", lambda tensor: tensor.index_fill(0, torch.tensor([3]), bad))
    with pytest.raises(ModelError, match=r"^model\.layers\.1\.mlp\.up_proj\.weight in .*model holds NaN or infinity"):
        load_model(ModelSource(str(model)))


def test_each_weight_is_read_once(model, monkeypatch):
    """The check looks at what was loaded: reading a large checkpoint twice takes minutes."""

    def refuse(*_):
        raise AssertionError("the checkpoint was read a second time")

    monkeypatch.setattr(weights, "iterate_file", refuse)
    monkeypatch.setattr(load, "require_finite", refuse)
    load_model(ModelSource(str(model)))


def test_pickled_weights_are_refused_before_anything_is_loaded(model, monkeypatch):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    monkeypatch.setattr(checkpoint, "AutoModelForCausalLM", None)
    with pytest.raises(ModelError, match=r"pickled weights \(pytorch_model\.bin\)"):
        load_model(ModelSource(str(model)))


def test_a_truncated_checkpoint_is_one_sentence(model):
    file = model / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"Cannot load .*model as a causal language model") as raised:
        load_model(ModelSource(str(model)))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_with_random_numbers(model):
    file = model / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 2 weights \(model\.layers\.0\.mlp\.up_proj\.weight, say\)"):
        load_model(ModelSource(str(model)))


def test_a_tied_head_is_not_missing(tmp_path):
    folder = save_tiny(tmp_path / "gemma", "gemma")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load_model(ModelSource(str(folder)))


def test_weights_of_another_shape_than_the_configuration_s_are_one_sentence(model):
    _change(model, "model.norm.weight", lambda tensor: tensor.repeat(2))
    with pytest.raises(ModelError, match=r"weights in .* do not fit its config\.json"):
        load_model(ModelSource(str(model)))


@pytest.mark.parametrize("config", ["{", '{"model_type": "unheard_of"}', '{"model_type": "llama", "hidden_size": "x"}'])
def test_a_broken_configuration_is_one_sentence(model, config):
    (model / "config.json").write_text(config)
    with pytest.raises(ModelError, match="Cannot load") as raised:
        load_model(ModelSource(str(model)))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_nowhere_is_one_sentence(tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for name, why in (
        ("nobody/nothing", "not in the Hub cache, and HF_HUB_OFFLINE=1 forbids a download"),
        (str(tmp_path / "absent"), "and no name that the Hub could know"),
    ):
        with pytest.raises(ModelError, match=rf"Cannot load .*no folder here, {why}"):
            load_model(ModelSource(name))
        with pytest.raises(ModelError, match=rf"Cannot load the tokenizer of .*no folder here, {why}"):
            load_tokenizer(ModelSource(name))
    with pytest.raises(ModelError, match=r"Cannot load the tokenizer of \(no name\)"):
        load_tokenizer(ModelSource(""))
