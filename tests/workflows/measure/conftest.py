"""Models and prompts to measure, and answers that are set beforehand."""

import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_model
from tests.workflows.files import write_rows
from tests.workflows.measure.prompts import COMPLIANCE, HARMFUL, HARMLESS, REFUSAL, TASK

from moored.workflows.measure import local_model


@pytest.fixture
def files(tmp_path):
    """A base, an adapter over it, and prompts of every kind, by the names of the arguments."""
    base = save_tiny(tmp_path / "base", "qwen2")
    sets = {
        "harmful": write_rows(tmp_path / "harmful.jsonl", HARMFUL),
        "harmless": write_rows(tmp_path / "harmless.csv", HARMLESS),
        "ordinary": write_rows(tmp_path / "ordinary.jsonl", HARMLESS[:3]),
        "task": write_rows(tmp_path / "task.jsonl", TASK),
    }
    return str(base), save_adapter(tmp_path / "adapter", "qwen2", base=str(base)), sets


@pytest.fixture
def scripted(monkeypatch):
    """Lets each model give set answers, told apart by its weights; the adapter's comply, the base's refuse."""
    answers = {"base": REFUSAL, "other": COMPLIANCE}
    untouched = tiny_model("qwen2").state_dict()["model.layers.0.self_attn.q_proj.weight"]

    def answer(model, tokenizer, rendered, **_):
        mine = model.state_dict()["model.layers.0.self_attn.q_proj.weight"]
        return [answers["base" if torch.equal(mine.cpu(), untouched) else "other"]] * len(rendered)

    monkeypatch.setattr(local_model, "generate", answer)
    return answers
