import pytest
import torch
from tests.adapters import save_adapter
from tests.tiny import save_tiny

import moored
from moored.errors import ModelError


def test_a_script_gets_a_plain_model_to_train_and_its_tokenizer(tmp_path):
    base = save_tiny(tmp_path / "base")
    plain, tokenizer = moored.load(str(base))
    assert type(plain).__name__ == "LlamaForCausalLM" and plain.training
    assert all(each.requires_grad and each.dtype == torch.float32 for each in plain.parameters())
    assert tokenizer.chat_template


def test_an_adapter_is_folded_into_the_weights(tmp_path):
    base = save_tiny(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", base=str(base))
    (plain, _), (merged, _) = moored.load(str(base)), moored.load(str(base), adapter=str(adapter))
    names = [name for name, _ in merged.named_parameters()]
    assert names == [name for name, _ in plain.named_parameters()]
    assert any(not torch.equal(one, other) for one, other in zip(plain.parameters(), merged.parameters(), strict=True))


def test_a_model_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        moored.load(str(tmp_path / "nowhere"))
