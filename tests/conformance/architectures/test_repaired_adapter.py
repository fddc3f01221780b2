"""A repaired adapter over any architecture gives plain PEFT the logits that the model in memory had."""

import pytest
import torch
from peft import PeftModel
from tests.conformance.architectures.oracles import PROMPTS, ids_of, logits_of, with_lora
from tests.conformance.architectures.outcomes import TEXT_PART_ALONE, cases
from tests.conformance.architectures.repairs import STEP, headers, repaired, save_architecture
from tests.conformance.architectures.tiny_architectures import tiny_architecture
from transformers import AutoModelForCausalLM

from moored.errors import ModelError

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries: odd models, and configurations made small.


@pytest.mark.parametrize(("architecture", "sentence"), cases(TEXT_PART_ALONE))
def test_a_repaired_adapter_is_what_was_in_memory(tmp_path, monkeypatch, architecture, sentence):
    model, adapter, out = (tmp_path / name for name in ("model", "adapter", "out"))
    save_architecture(model, architecture)
    with_lora(tiny_architecture(architecture)).save_pretrained(adapter)
    if sentence is not None:
        with pytest.raises(ModelError, match=sentence):
            repaired(monkeypatch, STEP, model, adapter=adapter, out=out)
        return
    memory = repaired(monkeypatch, STEP, model, adapter=adapter, out=out)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), out).eval()
    ids = ids_of(PROMPTS[1])
    torch.testing.assert_close(logits_of(plain, ids), logits_of(memory, ids), rtol=1e-4, atol=1e-4)
    assert headers(out) == headers(adapter)
