"""A repaired checkpoint of any architecture holds every tensor, and plain transformers reads what was in memory."""

import pytest
import torch
from tests.conformance.architectures.oracles import PROMPTS, ids_of, logits_of
from tests.conformance.architectures.outcomes import TEXT_PART_ALONE, cases
from tests.conformance.architectures.repairs import STEP, headers, repaired, save_architecture
from transformers import AutoModelForCausalLM

from moored.errors import ModelError
from moored.recovery import LinearPull
from moored.workflows.recover.run import repair

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries: odd models, and configurations made small.
RENAMED = ("deepseek_v4", "gemma3", "inkling2_text", "kimi_linear", "mixtral", "nemotron_h", "phimoe")
"""Those whose files name or stack tensors otherwise than memory."""
ZEROED_PADDING = {
    "youtu": "transformers 5.23 sets the embedding of the padding token to zero whenever it loads one, whatever the "
    "file says"
}


@pytest.mark.parametrize(("architecture", "sentence"), cases(TEXT_PART_ALONE, RENAMED, ZEROED_PADDING))
def test_a_checkpoint_repaired_by_steps(tmp_path, monkeypatch, architecture, sentence):
    model, out = save_architecture(tmp_path / "model", architecture), tmp_path / "out"
    if sentence is not None:
        with pytest.raises(ModelError, match=sentence):
            repaired(monkeypatch, STEP, model, out=out)
        return
    memory = repaired(monkeypatch, STEP, model, out=out)
    plain, ids = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval(), ids_of(PROMPTS[1])
    if architecture in ZEROED_PADDING:
        memory.get_input_embeddings().weight.data[0] = 0.0
    state = plain.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in memory.state_dict().items())
    torch.testing.assert_close(logits_of(plain, ids), logits_of(memory, ids), rtol=1e-4, atol=1e-4)
    assert headers(out) == headers(model)


@pytest.mark.parametrize(("architecture", "sentence"), cases(TEXT_PART_ALONE, fast=("gemma3", "mixtral")))
def test_a_checkpoint_repaired_by_a_formula(tmp_path, architecture, sentence):
    tuned, aligned = (save_architecture(tmp_path / str(seed), architecture, seed) for seed in (0, 7))
    if sentence is not None:
        with pytest.raises(ModelError, match=sentence):
            repair(LinearPull(share=0.5), str(tuned), against=str(aligned), out=tmp_path / "out")
        return
    repair(LinearPull(share=0.5), str(tuned), against=str(aligned), out=tmp_path / "out")
    assert headers(tmp_path / "out") == headers(tuned)
    one, other, half = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (tuned, aligned, tmp_path / "out")
    )
    for name, tensor in half.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (one[name] + other[name]) / 2, rtol=0.02, atol=0.02)
