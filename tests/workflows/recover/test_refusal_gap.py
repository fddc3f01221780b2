"""What a repair by an example watches."""

import pytest
import torch
from tests.tiny import save_tiny

from moored.huggingface.data import render_prompt
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.recover import refusal_gap as workflow


def _probability(model, tokenizer, prompt, beginnings):
    """That an answer begins with one of them, each scored in a sequence of its own."""
    total = 0.0
    for text in beginnings:
        start, more = (tokenizer(each, add_special_tokens=False)["input_ids"] for each in (prompt, text))
        with torch.no_grad():
            logits = model(torch.tensor([start + more])).logits[0, len(start) - 1 : -1]
        total += logits.log_softmax(-1)[range(len(more)), more].sum().exp().item()
    return total


def test_the_gap_is_of_the_harmful_request_over_its_twin(tmp_path, monkeypatch):
    source = ModelSource(str(save_tiny(tmp_path / "model")))
    model, tokenizer = load_model(source).eval(), load_tokenizer(source)
    monkeypatch.setattr(workflow, "WATCHED", 3)
    monkeypatch.setattr(workflow, "stems", lambda texts: ["I", "No"])
    gap = workflow.RefusalGap(model, tokenizer, "No.")
    found = gap()
    pairs = spread(unpooled_pairs(), 3)
    asked = {"harmful": [pair.harmful for pair in pairs], "harmless": [pair.twin for pair in pairs]}
    expected = {
        kind: sum(_probability(model, tokenizer, render_prompt(tokenizer, each), ["I", "No"]) for each in texts) / 3
        for kind, texts in asked.items()
    }
    (seen,) = gap.seen
    assert vars(seen) == pytest.approx(expected, rel=1e-3)
    assert found == pytest.approx(expected["harmful"] - expected["harmless"], rel=1e-2) and found != 0
