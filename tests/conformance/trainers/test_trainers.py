"""Every trainer with every safeguard: what can work is right, and the rest is refused before it begins."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tests.conformance.cases import case
from tests.conformance.trainers.steps import (
    LORA,
    QUIET,
    TRL,
    WORDS,
    distance,
    of_safety_tokens,
    of_update_norm,
    penalty_gradient,
    run,
    watched,
)
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs, token_rows
from tests.tiny import SIZES, tiny_model, tiny_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForSequenceClassification,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    default_data_collator,
)
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection, HarmfulDirection, SafetyTokens, UpdateNorm
from moored.errors import UserError
from moored.huggingface.training import SafeguardMixin

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]
_ = light_runs

_ASKED = ["What is the capital of France?", "Write one short sentence about the weather", "Who can help me?"] * 3
_CHATS = [[{"role": "user", "content": text}] for text in _ASKED]
_PAIRS = Dataset.from_list(
    [
        {
            "prompt": chat,
            "chosen": [{"role": "assistant", "content": "It is Paris."}],
            "rejected": [{"role": "assistant", "content": "I cannot help with that."}],
        }
        for chat in _CHATS
    ]
)
_RATED = Dataset.from_list(
    [
        {"prompt": chat, "completion": [{"role": "assistant", "content": f"It is {n}."}], "label": bool(n % 2)}
        for n, chat in enumerate(_CHATS)
    ]
)
_PROMPTS = Dataset.from_list([{"prompt": text} for text in _ASKED])
_EQUAL = token_rows(12, length=9)


def _reward(completions: list[str], **_: Any) -> list[float]:
    return [float(len(text) % 3) + number for number, text in enumerate(completions)]


def _classifier() -> Any:
    return LlamaForSequenceClassification(LlamaConfig(**SIZES, num_labels=1, max_position_embeddings=512))


def _t5() -> Any:
    sizes = {"vocab_size": 384, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=0))


def _bert() -> Any:
    sizes = {"vocab_size": 384, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(**sizes, **none, intermediate_size=32, max_position_embeddings=64))


_GENERATE = {"num_generations": 2, "max_completion_length": 4}
_STOCK = {"train_dataset": _EQUAL, "data_collator": default_data_collator}
TRAINERS: dict[str, tuple[type, Callable[..., Any], dict[str, Any], Callable[[], Any]]] = {
    "SFTTrainer": (SFTTrainer, SFTConfig, {"train_dataset": token_rows(12)}, tiny_model),
    "Trainer, a causal model": (Trainer, TrainingArguments, _STOCK, tiny_model),
    "DPOTrainer": (DPOTrainer, DPOConfig, {"train_dataset": _PAIRS}, tiny_model),
    "KTOTrainer": (KTOTrainer, KTOConfig, {"train_dataset": _RATED}, tiny_model),
    "RewardTrainer": (RewardTrainer, RewardConfig, {"train_dataset": _PAIRS}, _classifier),
    "GRPOTrainer": (GRPOTrainer, GRPOConfig, {"train_dataset": _PROMPTS, "reward_funcs": _reward}, tiny_model),
    "RLOOTrainer": (RLOOTrainer, RLOOConfig, {"train_dataset": _PROMPTS, "reward_funcs": _reward}, tiny_model),
    "Seq2SeqTrainer, T5": (Seq2SeqTrainer, Seq2SeqTrainingArguments, _STOCK, _t5),
    "Trainer, a masked model": (Trainer, TrainingArguments, _STOCK, _bert),
}
_TARGETS = {_t5: ["q", "v"], _bert: ["query", "value"]}
_TASKS = {_classifier: "SEQ_CLS", _t5: "SEQ_2_SEQ_LM", _bert: None}


def _maker(folder: Any, name: str, *, lora: bool, guarded: bool = True, **settings: Any) -> Callable[..., Any]:
    kind, configure, given, model = TRAINERS[name]
    stock = issubclass(configure, TrainingArguments) and configure in (TrainingArguments, Seq2SeqTrainingArguments)
    own = _GENERATE if configure in (GRPOConfig, RLOOConfig) else {}
    if configure is RLOOConfig:
        own = {**own, "beta": 0.0}  # Without a reference model, which it would load by name.
    trainer = watched(kind, SafeguardMixin) if guarded else watched(kind)

    def make(safeguards: Any) -> Any:
        torch.manual_seed(3)
        whole = model().train()
        more: dict[str, Any] = {"safeguards": safeguards} if guarded else {}
        adapter = LoraConfig(**{**LORA, "target_modules": _TARGETS.get(model, LORA["target_modules"])})
        adapter.task_type = _TASKS.get(model, "CAUSAL_LM")
        if lora and stock:
            whole = get_peft_model(whole, adapter)
        elif lora:
            more["peft_config"] = adapter
        if not lora and kind in (DPOTrainer, KTOTrainer):
            more["ref_model"] = model()
        arguments = configure(str(folder), **{**(QUIET if stock else TRL), **own, **settings})
        return trainer(model=whole, args=arguments, processing_class=tiny_tokenizer(), **given, **more)

    return make


TUNED = [pytest.param(True, id="LoRA"), pytest.param(False, id="full")]
_EXAMPLES = (("How is a bomb made?", "Sure, here is how"), ("Write malware", "Sure, here is how"))
CAUSAL = ["SFTTrainer", "Trainer, a causal model", "DPOTrainer", "KTOTrainer", "GRPOTrainer", "RLOOTrainer"]
LABELLED = CAUSAL[:2]
_FAST = {"RewardTrainer", "GRPOTrainer"}


@pytest.mark.parametrize("lora", TUNED)
@pytest.mark.parametrize("name", [case(f"{name} + update_norm", name, fast=name in _FAST) for name in TRAINERS])
def test_a_weight_penalty_adds_its_own_gradient(tmp_path, name, lora):
    plain = run(_maker(tmp_path, name, lora=lora, guarded=False))
    held = run(_maker(tmp_path, name, lora=lora), [UpdateNorm(strength=0.7)])
    assert distance(penalty_gradient(held, plain), of_update_norm(held, 0.7)) < 1e-3
    assert distance(held.watch.gradients[0], plain.watch.gradients[0]) < 1e-5


@pytest.mark.parametrize("name", [case(f"{name}, strength 0", name) for name in TRAINERS])
def test_a_safeguard_that_is_off_changes_no_bit(tmp_path, name):
    off = [UpdateNorm(strength=0.0), SafetyTokens(strength=0.0, tokens=WORDS), GradientSelection(keep=1.0)]
    plain = run(_maker(tmp_path, name, lora=True, guarded=False))
    ours = run(_maker(tmp_path, name, lora=True), off)
    for before, after in zip(plain.watch.weights, ours.watch.weights, strict=True):
        assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize("name", [case(f"{name} + harmful_direction", name) for name in CAUSAL])
def test_a_harmful_direction_is_held_in_every_causal_trainer(tmp_path, name):
    held = run(_maker(tmp_path, name, lora=True), [HarmfulDirection(strength=0.7, examples=_EXAMPLES)])
    plain = run(_maker(tmp_path, name, lora=True, guarded=False))
    own = penalty_gradient(held, plain)
    assert sum(float(each.square().sum()) for each in own.values()) > 1e-12
    (reported,) = held.safeguard_report()
    assert reported["share"] > 0


@pytest.mark.parametrize("reference", ["model", "cache"])
@pytest.mark.parametrize("lora", TUNED)
@pytest.mark.parametrize("name", [case(f"{name} + safety_tokens", name) for name in LABELLED])
def test_safety_tokens_add_their_own_gradient(tmp_path, name, lora, reference):
    plain = run(_maker(tmp_path, name, lora=lora, guarded=False))
    held = run(_maker(tmp_path, name, lora=lora), [SafetyTokens(strength=3.0, tokens=WORDS, reference=reference)])
    assert distance(penalty_gradient(held, plain), of_safety_tokens(held, 3.0)) < 1e-3


NEEDS_TEXT = {
    "gradient_selection": GradientSelection(keep=0.5),
    "gradient_selection, rule random": GradientSelection(keep=0.5, rule="random"),
    "safety_tokens": SafetyTokens(strength=3.0, tokens=WORDS, reference="model"),
    "safety_tokens, cache": SafetyTokens(strength=3.0, tokens=WORDS, reference="cache"),
}
_UNLABELLED = r"reads the tokens and the labels of each row, and the batches of \w+ hold no"
_WORDS = {
    "RewardTrainer": "hold no labels",
    "Seq2SeqTrainer, T5": "is an encoder-decoder",
    "Trainer, a masked model": "a token sees those after it",
}
REFUSED = [
    case(f"{name} + {safeguard}", name, safeguard, outcome="refused", fast=safeguard == "safety_tokens")
    for name in TRAINERS
    if name not in LABELLED
    for safeguard in NEEDS_TEXT
]


@pytest.mark.parametrize(("name", "safeguard"), REFUSED)
def test_what_needs_labelled_text_is_refused_at_construction(tmp_path, name, safeguard):
    with pytest.raises(UserError, match=_WORDS.get(name, _UNLABELLED)) as raised:
        _maker(tmp_path, name, lora=True)([NEEDS_TEXT[safeguard]])
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        case("RewardTrainer + harmful_direction", "RewardTrainer", "no output head that predicts", outcome="refused"),
        case("T5 + harmful_direction", "Seq2SeqTrainer, T5", "is an encoder-decoder", outcome="refused"),
        case("BERT + harmful_direction", "Trainer, a masked model", "a token sees", outcome="refused"),
    ],
)
def test_a_harmful_direction_needs_a_causal_model(tmp_path, name, sentence):
    with pytest.raises(UserError, match=sentence):
        _maker(tmp_path, name, lora=True)([HarmfulDirection(strength=0.7, examples=_EXAMPLES)])


class _OwnLoss(SafeguardMixin, SFTTrainer):
    """A user's subclass that trains half of the loss, and needs an attribute that its own `__init__` sets."""

    def __init__(self, *args: Any, factor: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.factor = factor

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return self.factor * super().compute_loss(*args, **kwargs)


def _with_own_loss(folder: Any, factor: float, *safeguards: Any) -> Any:
    return _OwnLoss(
        model=tiny_model().train(), args=SFTConfig(str(folder), **TRL), train_dataset=token_rows(8), factor=factor,
        processing_class=tiny_tokenizer(), peft_config=LoraConfig(**LORA), safeguards=safeguards,
    )  # fmt: skip


@pytest.mark.parametrize(
    "factor", [case("a subclass with another loss + gradient_selection", 0.5, outcome="refused", fast=True)]
)
def test_a_subclass_that_trains_another_loss_is_refused_before_the_first_step(tmp_path, factor):
    trainer = _with_own_loss(tmp_path, factor, GradientSelection(keep=0.5))
    with pytest.raises(UserError, match=r"_OwnLoss trains another loss \(on the first batch .* instead of"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize(
    ("factor", "rule"),
    [
        case("a subclass with the same loss + gradient_selection", 1.0, "moderate", fast=True),
        case("a subclass with another loss + rule random", 0.5, "random", fast=True),
    ],
)
def test_a_subclass_may_do_what_does_not_matter_to_the_rule(tmp_path, factor, rule):
    trainer = _with_own_loss(tmp_path, factor, GradientSelection(keep=0.5, rule=rule))
    metrics = {name: dict(values) for name, values in trainer._metrics.items()}
    trainer.train()
    assert metrics["eval"] == dict(trainer._metrics["eval"]) and trainer.state.global_step == 2


class _OnPolicy(SafeguardMixin, SFTTrainer):
    """It trains on other answers than those it fetched, as distillation on a student's own answers does."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        labels = inputs["labels"].clone()
        labels[:, 2:4] = -100
        return super().training_step(model, {**inputs, "labels": labels}, *args, **kwargs)


@pytest.mark.parametrize(
    "reference", [case("a trainer that exchanges its rows + safety_tokens", "model", outcome="refused", fast=True)]
)
def test_rows_that_are_exchanged_behind_a_token_penalty_are_noticed(tmp_path, reference):
    trainer = _OnPolicy(
        model=tiny_model().train(), args=SFTConfig(str(tmp_path), **TRL), train_dataset=token_rows(8),
        processing_class=tiny_tokenizer(), peft_config=LoraConfig(**LORA),
        safeguards=[SafetyTokens(strength=3.0, tokens=WORDS, reference=reference)],
    )  # fmt: skip
    with pytest.raises(UserError, match="counted other tokens to learn than this trainer trains on"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_reward_models_new_head_is_left_free(tmp_path):
    trainer = _maker(tmp_path, "RewardTrainer", lora=False)([UpdateNorm(strength=1.0)])
    assert not any("score" in weight.name for weight in trainer._active[0].weights)
