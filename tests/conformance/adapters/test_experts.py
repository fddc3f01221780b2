"""Adapters that name experts one by one, as transformers 4 had them, and formulas between other checkpoints."""

import re

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tests.conformance.adapters.kinds import Trained, Ways, assert_near, by_peft, logits_of, plain, quietly
from tests.conformance.cases import case

from moored.recovery import LinearPull
from moored.workflows.recover.run import repair

_EXPERT = r"experts\.\d+\.(?:w[123]|gate_proj|up_proj|down_proj)\.weight$|q_proj\.weight$"
_TARGETS = {"mixtral": ["w1", "w2", "w3"], "qwen3 moe": ["gate_proj", "up_proj", "down_proj"]}
_SCALE = 3.0


def _one_by_one(shelf, family, folder):
    """An adapter with factors for each expert's own weights, and the checkpoint with their products added."""
    base, draw = shelf.base(family), torch.Generator().manual_seed(5)
    weights, factors = load_file(base / "model.safetensors"), {}
    added = dict(weights)
    for name in filter(re.compile(_EXPERT).search, sorted(weights)):
        rows, columns = weights[name].shape
        a, b = (0.2 * torch.randn(size, generator=draw) for size in ((2, columns), (rows, 2)))
        module = f"base_model.model.{name.removesuffix('.weight')}"
        factors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        added[name] = weights[name] + _SCALE * b @ a
    (folder / "adapter").mkdir()
    save_file(factors, folder / "adapter" / "adapter_model.safetensors")
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["q_proj", *_TARGETS[family]], task_type="CAUSAL_LM")
    config.save_pretrained(str(folder / "adapter"))
    return base, weights, added


def _logits_with(base, weights, folder):
    folder.mkdir()
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return logits_of(plain(folder))


@pytest.mark.parametrize(
    "family",
    [
        case("experts one by one (transformers 4), Mixtral", "mixtral", fast=True),
        case("experts one by one (transformers 4), Qwen3-MoE", "qwen3 moe"),
    ],
)
def test_experts_one_by_one_are_stacked_as_they_were(shelf, tmp_path, monkeypatch, family):
    """A second computation adds each product to its expert's weight in the files."""
    base, weights, added = _one_by_one(shelf, family, tmp_path)
    logits = _logits_with(base, added, tmp_path / "added")
    trained = Trained(base=base, adapter=tmp_path / "adapter", logits=logits)
    ways = Ways(trained, tmp_path)
    with quietly():
        ways.load()
        ways.recover(monkeypatch)
        repair(LinearPull(share=0.5), str(base), adapter=trained.adapter, out=tmp_path / "pulled")
        half = {name: (weights[name] + added[name]) / 2 for name in weights}
        assert_near(logits_of(by_peft(trained, tmp_path / "pulled")), _logits_with(base, half, tmp_path / "half"))
