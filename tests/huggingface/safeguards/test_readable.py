"""Safeguards that read the head or the labels are refused at the trainer's construction where a model does not suit."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tests.huggingface.gradients.models import padded, rows
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, make_trainer, token_rows
from tests.tiny import SIZES, tiny_model, tiny_tokenizer
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from moored import GradientSelection, HarmfulDirection, SafetyTokens, UpdateNorm
from moored.errors import InputError, ModelError
from moored.huggingface.gradients import score
from moored.huggingface.safeguards.readable import require_readable
from moored.huggingface.training import SafeguardMixin

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

SAFEGUARDS = {
    "selection": GradientSelection(keep=0.5),
    "at_random": GradientSelection(keep=0.5, rule="random"),
    "tokens": SafetyTokens(strength=1.0, tokens=["I", "S"], reference="model"),
    "cached_tokens": SafetyTokens(strength=1.0, tokens=["I", "S"], reference="cache"),
    "harmful": HarmfulDirection(examples=(("What is it?", "Sure, here is how"),)),
}
_BART = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
_BART |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 384, "decoder_start_token_id": 2}
_BERT = {"vocab_size": 384, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_T5 = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}


class _Bidirectional(LlamaForCausalLM):
    """Its head is a plain one, and every token sees all others."""

    def forward(self, input_ids: Any = None, labels: Any = None, **more: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        mask = torch.zeros(1, 1, input_ids.shape[1], input_ids.shape[1])
        return super().forward(input_ids=input_ids, labels=labels, attention_mask=mask, **more)


MODELS = {
    "bart": (lambda: BartForConditionalGeneration(BartConfig(**_BART)), "is an encoder-decoder"),
    "t5": (lambda: T5ForConditionalGeneration(T5Config(**_T5, decoder_start_token_id=0)), "is an encoder-decoder"),
    "bert": (lambda: BertForMaskedLM(BertConfig(**_BERT, intermediate_size=32)), "a token sees those after it"),
    "bidirectional": (lambda: _Bidirectional(LlamaConfig(**SIZES)), "a token sees those after it"),
    "classifier": (lambda: LlamaForSequenceClassification(LlamaConfig(**SIZES)), "no output head that predicts tokens"),
}


class _Trainer(SafeguardMixin, Trainer):
    """Any trainer."""


class _Grpo(SafeguardMixin, GRPOTrainer):
    """It makes its rows itself."""


def _trainer(folder, model, *safeguards):
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none")
    return _Trainer(
        model=model, args=arguments, train_dataset=token_rows(4), processing_class=tiny_tokenizer(),
        safeguards=safeguards,
    )  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("safeguard", SAFEGUARDS)
def test_a_model_that_is_not_causal_is_refused_at_construction(tmp_path, model, safeguard):
    make, why = MODELS[model]
    with pytest.raises(ModelError, match=why) as raised:
        _trainer(tmp_path, make(), SAFEGUARDS[safeguard])
    assert str(raised.value).endswith(".") and "LoRA" not in str(raised.value)


@pytest.mark.parametrize("model", MODELS)
def test_weight_penalties_go_on(tmp_path, model):
    assert _trainer(tmp_path, MODELS[model][0](), UpdateNorm(strength=1.0))._active


def _scaled():
    """Logits that are three times what the head gives, which nothing in the configuration says."""
    model = tiny_model()
    plain = model.lm_head.forward
    model.lm_head.forward = lambda x: 3 * plain(x)
    return model


@pytest.mark.parametrize("safeguard", sorted(set(SAFEGUARDS) - {"at_random"}))
def test_logits_of_an_unknown_kind_are_refused_at_construction(tmp_path, safeguard):
    with pytest.raises(ModelError, match="computes its logits in an unknown way"):
        _trainer(tmp_path, _scaled(), SAFEGUARDS[safeguard])


@pytest.mark.parametrize("strategy", ["bfd_split", "wrapped"])
@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_the_beginnings_of_answers_are_not_looked_for_where_answers_are_cut(tmp_path, strategy):
    packed = {"packing": True, "packing_strategy": strategy, "max_length": 16, "rows": token_rows(8)}
    tokens = {"strength": 1.0, "tokens": ["I", "S"], "reference": "model"}
    with pytest.raises(InputError, match=f"packing_strategy: {strategy} cuts answers apart"):
        make_trainer(tmp_path, safeguards=[SafetyTokens(**tokens, first=1)], **packed)
    assert make_trainer(tmp_path, safeguards=[SafetyTokens(**tokens)], **packed)._active


@pytest.mark.parametrize("safeguard", ["selection", "at_random", "tokens", "cached_tokens"])
def test_a_trainer_that_generates_its_rows_is_refused_before_it_does(tmp_path, safeguard):
    arguments = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", activation_checkpointing=False,
        per_device_train_batch_size=2, num_generations=2, max_completion_length=4,
    )  # fmt: skip
    with pytest.raises(
        InputError, match="reads the tokens and the labels of each row, and the batches of _Grpo hold no tensors"
    ):
        _Grpo(
            model=tiny_model().train(), args=arguments, train_dataset=Dataset.from_list([{"prompt": "Who?"}] * 4),
            processing_class=tiny_tokenizer(), reward_funcs=lambda completions, **_: [0.0] * len(completions),
            safeguards=[SAFEGUARDS[safeguard]],
        )  # fmt: skip


def test_sharded_weights_are_refused(tmp_path):
    """As a model has that transformers loads with `distributed_config`."""
    store = torch.distributed.HashStore()  # pyright: ignore[reportPrivateImportUsage]
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = tiny_model()
        shards = distribute_tensor(model.lm_head.weight.detach(), init_device_mesh("cpu", (1,)), [Shard(0)])
        model.lm_head.weight = nn.Parameter(shards)
        with pytest.raises(ModelError, match=r"LlamaForCausalLM are sharded, .* without distributed_config"):
            require_readable(model, head=True)
    finally:
        torch.distributed.destroy_process_group()


def test_a_decoder_that_is_not_where_the_class_says_is_found():
    sizes = {**SIZES, "intermediate_size_mlp": 32, "num_local_experts": 2, "max_position_embeddings": 64}
    model = Llama4ForCausalLM(Llama4TextConfig(**sizes))
    assert model.base_model is model
    require_readable(model, head=True)


def test_a_selection_at_random_looks_at_no_logits(tmp_path):
    assert _trainer(tmp_path, _scaled(), SAFEGUARDS["at_random"])._active


def test_the_scores_of_an_encoder_decoder_are_refused_too():
    with pytest.raises(ModelError, match="is an encoder-decoder"):
        score(MODELS["bart"][0](), padded(rows()))


def test_a_trial_leaves_no_trace():
    model: nn.Module = get_peft_model(tiny_model(dropout=0.3), LoraConfig(r=2, target_modules=["q_proj"])).train()
    random, before = torch.get_rng_state(), {name: each.clone() for name, each in model.state_dict().items()}
    require_readable(model, head=True)
    assert torch.equal(random, torch.get_rng_state()) and all(each.training for each in model.modules())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
