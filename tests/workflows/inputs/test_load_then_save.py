"""What a script trains on top of a model with an adapter, saved and read again."""

import json

import pytest
import torch
from peft import LoraConfig
from tests.adapters import LORA, save_adapter
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, token_rows
from tests.tiny import save_tiny, tiny_arguments
from transformers import AutoModelForCausalLM

import moored
from moored.errors import InputError, ModelError
from moored.huggingface import SafeguardedSFTTrainer

pytestmark = THIRD_PARTY_WARNINGS
IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def below(tmp_path):
    base = save_tiny(tmp_path / "base")
    return save_adapter(tmp_path / "below", base=str(base))


def _trainer(folder, start, *, adapter=None, **lora):
    model, tokenizer = moored.load(str(start), adapter=adapter)
    return SafeguardedSFTTrainer(
        model=model,
        args=tiny_arguments(folder, max_steps=2, save_steps=2, save_strategy="steps", learning_rate=0.1),
        train_dataset=token_rows(8),
        processing_class=tokenizer,
        peft_config=LoraConfig(**{**LORA, **lora}),
    )


def test_an_adapter_on_top_of_one_is_saved_as_one_that_holds_both(tmp_path, below):
    trainer = _trainer(tmp_path / "run", below)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert trainer.model is not None
    trained = trainer.model.eval()(IDS).logits
    again, _ = moored.load(str(tmp_path / "saved"))
    torch.testing.assert_close(again.eval()(IDS).logits, trained, rtol=1e-4, atol=1e-4)
    start, _ = moored.load(str(below))
    assert (start.eval()(IDS).logits - trained).abs().max() > 1e-2
    assert json.loads((tmp_path / "saved" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        tmp_path / "base"
    )


def test_a_checkpoint_lacks_the_part_below_and_is_refused(tmp_path, below):
    _trainer(tmp_path / "run", below).train()
    checkpoint = tmp_path / "run" / "checkpoint-2"
    for name, adapter in ((checkpoint, None), (tmp_path / "base", checkpoint)):
        with pytest.raises(ModelError, match="which is an adapter too, and lacks its part; save it by"):
            moored.load(str(name), adapter=adapter)


def test_it_is_refused_on_another_machine_too(tmp_path, below):
    _trainer(tmp_path / "run", tmp_path / "base", adapter=below).train()
    below.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"base \+ .*below as its base, which is an adapter too"):
        moored.load(str(tmp_path / "base"), adapter=tmp_path / "run" / "checkpoint-2")


def test_an_adapter_on_a_checkpoint_alone_is_saved_as_it_is(tmp_path, below):
    trainer = _trainer(tmp_path / "run", tmp_path / "base")
    trainer.save_model(str(tmp_path / "saved"))
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert config["r"] == LORA["r"] and not config["rank_pattern"]


def test_a_checkpoint_trained_in_all_parameters_is_whole(tmp_path, below):
    model, tokenizer = moored.load(str(below))
    trainer = SafeguardedSFTTrainer(
        model=model, args=tiny_arguments(tmp_path / "run"), train_dataset=token_rows(8), processing_class=tokenizer
    )
    trainer.save_model(str(tmp_path / "saved"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(IDS).logits, model.eval()(IDS).logits)


def test_what_could_not_be_saved_as_one_is_refused_before_training(tmp_path, below):
    with pytest.raises(InputError, match="leave use_dora out of its LoraConfig"):
        _trainer(tmp_path / "run", below, use_dora=True)
