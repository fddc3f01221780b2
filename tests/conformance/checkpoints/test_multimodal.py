"""Checkpoints of models that see: the text part is repaired, and everything else is written as it was."""

import pytest
import torch
from safetensors.torch import load_file
from tests.conformance.architectures.repairs import STEP, headers, repaired
from tests.conformance.architectures.tiny_architectures import tiny_architecture
from tests.conformance.cases import case
from tests.tiny import tiny_tokenizer
from transformers import AutoModelForImageTextToText

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load_model
from moored.recovery import LinearPull
from moored.workflows.recover.run import repair

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries: odd models, and configurations made small.
_TOWERS = ("vision", "visual", "projector")


def _saved(folder, architecture, seed):
    model = tiny_architecture(architecture, seed=seed, auto=AutoModelForImageTextToText)
    model.to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    "architecture",
    [
        case("Gemma 3", "gemma3", fast=True),
        case("GOT-OCR 2", "got_ocr2"),
        case("Llama 3.2 Vision", "mllama", fast=True),
        case("Llama 4", "llama4", fast=True),
        case("Qwen3.5", "qwen3_5", fast=True),
        case("Qwen3.5 with experts", "qwen3_5_moe"),
        case("Qwen4", "qwen4_exp"),
    ],
)
def test_a_repair_keeps_the_whole_model(tmp_path, monkeypatch, architecture):
    start, aligned = (_saved(tmp_path / str(seed), architecture, seed) for seed in (0, 7))
    memory = repaired(monkeypatch, STEP, start, out=tmp_path / "steps")
    repair(LinearPull(share=0.5), str(start), against=str(aligned), out=tmp_path / "formula")
    before = load_file(start / "model.safetensors")
    after = load_file(tmp_path / "steps" / "model.safetensors")
    for out in ("steps", "formula"):
        assert headers(tmp_path / out) == headers(start)
        assert (tmp_path / out / "config.json").read_bytes() == (start / "config.json").read_bytes()
    towers = [name for name in before if any(word in name for word in _TOWERS)]
    assert towers and all(torch.equal(before[name], after[name]) for name in towers)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    # The class of the whole model, which config.json names, reads every tensor.
    _, found = AutoModelForImageTextToText.from_pretrained(tmp_path / "steps", output_loading_info=True)
    assert not found["missing_keys"]
    text = load_model(ModelSource(str(tmp_path / "steps"))).state_dict()
    assert all(torch.equal(tensor, text[name]) for name, tensor in memory.state_dict().items())


@pytest.mark.parametrize(
    "architecture",
    [
        case("LLaVA", "llava", outcome="refused", fast=True),
        case("Mistral 3", "mistral3", outcome="refused"),
        case("Qwen2.5-VL", "qwen2_5_vl", outcome="refused"),
        case("Qwen3-VL", "qwen3_vl", outcome="refused"),
    ],
)
def test_a_model_without_a_text_class_is_refused(tmp_path, architecture):
    start = _saved(tmp_path / "start", architecture, 0)
    for attempt in (
        lambda: load_model(ModelSource(str(start))),
        lambda: repair(STEP, str(start), out=tmp_path / "out"),
        lambda: repair(LinearPull(share=0.5), str(start), against=str(start), out=tmp_path / "out"),
    ):
        with pytest.raises(ModelError, match="has no causal language model that transformers knows") as raised:
            attempt()
        assert "\n" not in str(raised.value)
