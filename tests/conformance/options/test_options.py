"""One option of SFTTrainer after the other, under penalties and under a selection, against plain autograd."""

from typing import Any

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from tests.conformance.cases import case
from tests.conformance.trainers.steps import (
    LORA,
    TRL,
    WORDS,
    distance,
    documents,
    norm_of,
    of_mean_loss,
    of_safety_tokens,
    of_update_norm,
    penalty_gradient,
    run,
    watched,
)
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs, token_rows
from tests.tiny import CHATML, tiny_model, tiny_tokenizer
from transformers import PreTrainedTokenizerBase
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection, SafetyTokens, UpdateNorm
from moored.errors import InactiveError, UserError
from moored.huggingface.training import SafeguardedSFTTrainer

pytestmark = [
    *THIRD_PARTY_WARNINGS,
    pytest.mark.usefixtures("light_runs"),
    pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length|packing).*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*(deprecated|will be removed|use_reentrant|reentrant).*"),
    pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning"),
]
_ = light_runs

_MARKED = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n{% else %}{{ message['content'] }}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_TURNS = [
    ([{"role": "user", "content": f"What is {n}?"}], [{"role": "assistant", "content": "It is Paris. " * (1 + n % 3)}])
    for n in range(16)
]
CHATS = Dataset.from_list([{"messages": asked + answered} for asked, answered in _TURNS])
COMPLETIONS = Dataset.from_list([{"prompt": asked, "completion": answered} for asked, answered in _TURNS])


def _stream() -> IterableDataset:
    return IterableDataset.from_generator(lambda: iter(token_rows(16).to_list()))


def _maker(folder: Any, *, guarded: bool = True, **option: Any) -> Any:
    """A function from safeguards to a trainer with one option; `guarded=False` gives plain TRL's."""
    plain = {
        "rows": token_rows(16),
        "lora": LORA,
        "template": CHATML,
        "model": tiny_model,
        "eval_rows": None,
        "func": None,
    }
    given = {name: option.pop(name, value) for name, value in plain.items()}
    kind = watched(SFTTrainer, SafeguardedSFTTrainer) if guarded else watched(SFTTrainer)

    def make(safeguards: Any) -> Any:
        torch.manual_seed(3)
        tokenizer: PreTrainedTokenizerBase = tiny_tokenizer(given["template"])
        return kind(
            model=given["model"]().train(),
            args=SFTConfig(str(folder), **{**TRL, **option}),
            train_dataset=given["rows"]() if callable(given["rows"]) else given["rows"],
            eval_dataset=given["eval_rows"],
            processing_class=tokenizer,
            peft_config=LoraConfig(**given["lora"]) if given["lora"] else None,
            compute_loss_func=given["func"],
            **({"safeguards": safeguards} if guarded else {}),
        )

    return make


_NOISY = {**LORA, "lora_dropout": 0.3, "init_lora_weights": False}
_CHECKPOINTED = {"activation_checkpointing": True}
OPTIONS: dict[str, dict[str, Any]] = {
    "TRL's defaults": {},
    "all parameters": {"lora": None},
    "activation checkpointing": _CHECKPOINTED,
    "activation checkpointing, reentrant": {
        **_CHECKPOINTED,
        "activation_checkpointing_kwargs": {"use_reentrant": True},
    },
    "packing": {"packing": True, "max_length": 24},
    "packing, bfd_split": {"packing": True, "packing_strategy": "bfd_split", "max_length": 10},
    "packing, wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 24},
    "padding_free": {"padding_free": True, "max_length": None},
    "loss_type dft": {"loss_type": "dft"},
    "label_smoothing_factor": {"label_smoothing_factor": 0.1},
    "assistant_only_loss": {"assistant_only_loss": True, "rows": CHATS, "template": _MARKED},
    "messages": {"rows": CHATS},
    "prompt and completion": {"rows": COMPLETIONS},
    "completion_only_loss false": {"rows": COMPLETIONS, "completion_only_loss": False},
    "a stream": {"rows": _stream},
    "group_by_length": {"train_sampling_strategy": "group_by_length"},
    "a short last window": {"gradient_accumulation_steps": 3, "max_steps": 4, "num_train_epochs": 2},
    "dataloader_drop_last": {"dataloader_drop_last": True, "per_device_train_batch_size": 3},
    "split_batches": {"accelerator_config": {"split_batches": True}},
    "evaluation": {"eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True, "eval_rows": token_rows(4)},
    "pad_to_multiple_of": {"pad_to_multiple_of": 16},
    "max_length, end kept": {"truncation_mode": "keep_end", "max_length": 8},
    "max_length": {"max_length": 8},
    "AdamW": {"optim": "adamw_torch", "learning_rate": 1e-3},
    "Adafactor": {"optim": "adafactor", "learning_rate": 1e-2},
    "fp16 on the CPU, which trains in fp32": {"fp16": True},
    "auto_find_batch_size": {"auto_find_batch_size": True},
    "include_num_input_tokens_seen": {"include_num_input_tokens_seen": "non_padding"},
    "modules_to_save lm_head": {"lora": {**LORA, "modules_to_save": ["lm_head"]}},
    "rsLoRA": {"lora": {**LORA, "use_rslora": True}},
    "tied embeddings": {"model": lambda: tiny_model("gemma")},
    "tied embeddings, all parameters": {"model": lambda: tiny_model("gemma"), "lora": None},
    "NEFTune": {"neftune_noise_alpha": 5.0},
    "lora_dropout": {"lora": _NOISY},
    "attention dropout, all parameters": {"model": lambda: tiny_model(dropout=0.3), "lora": None},
    "dropout under activation checkpointing": {"lora": _NOISY, **_CHECKPOINTED},
    "NEFTune under activation checkpointing": {"neftune_noise_alpha": 5.0, "lora": None, **_CHECKPOINTED},
    "dropout in packed rows": {"lora": _NOISY, "packing": True, "max_length": 24},
}
NOISY = {name for name in OPTIONS if "dropout" in name or "NEFTune" in name}
FAST = {
    "lora_dropout",
    "NEFTune",
    "dropout under activation checkpointing",
    "TRL's defaults",
    "loss_type dft",
}


@pytest.mark.parametrize("option", [case(name, name, fast=name in FAST) for name in OPTIONS])
def test_penalties_add_their_own_gradients(tmp_path, option):
    """At the first step both are zero, whatever noise the option brings; at the second they are what autograd says."""
    safeguards = [UpdateNorm(strength=0.7), SafetyTokens(strength=3.0, tokens=WORDS, reference="model")]
    plain = run(_maker(tmp_path, guarded=False, **OPTIONS[option]))
    held = run(_maker(tmp_path, **OPTIONS[option]), safeguards)
    expected = of_update_norm(held, 0.7)
    for name, gradient in of_safety_tokens(held, 3.0).items():
        expected[name] = expected.get(name, 0) + gradient
    assert distance(penalty_gradient(held, plain), expected) < 2e-3
    assert distance(held.watch.gradients[0], plain.watch.gradients[0]) < 1e-4
    first = next(entry for entry in held.state.log_history if "safety/safety_tokens/value" in entry)
    assert first["safety/safety_tokens/value"] < 1e-9 and first["safety/safety_tokens/gradient_ratio"] < 1e-3


UNSCORED = {
    "packing, bfd_split": "cuts apart; use bfd",
    "packing, wrapped": "cuts apart; use bfd",
    "loss_type dft": "loss_type: dft trains another loss",
    "label_smoothing_factor": "label_smoothing_factor trains another loss",
    "fp16 on the CPU, which trains in fp32": "too small for fp16",
}
SCORED = [name for name in OPTIONS if name not in UNSCORED]


@pytest.mark.parametrize("option", [case(name, name, fast=name in FAST) for name in SCORED])
def test_a_selection_keeps_the_rows_of_the_lowest_norms(tmp_path, option):
    """By a backward pass for each row; the step's gradient is then that of the kept rows alone."""
    chosen = run(_maker(tmp_path, **OPTIONS[option]), [GradientSelection(keep=0.5, rule="low")])
    for step, weights in enumerate(chosen.watch.weights):
        rows = [row for batch in chosen.fetched[step] for row in documents(batch)]
        kept = [row for batch in chosen.chosen[step] for row in documents(batch)]
        norms = {row: norm_of(chosen, row, weights) for row in rows}
        lowest = sorted(norms, key=norms.__getitem__)[: len(kept)]
        assert sorted(kept) == sorted(lowest) and 0 < len(kept) < len(rows)
        if option not in NOISY:
            expected = of_mean_loss(chosen, chosen.chosen[step], weights)
            assert distance(chosen.watch.gradients[step], expected) < 1e-3


REFUSED = [case(name, name, sentence, outcome="refused", fast=True) for name, sentence in UNSCORED.items()]


@pytest.mark.parametrize(("option", "sentence"), REFUSED)
def test_a_selection_refuses_at_construction_what_it_would_misjudge(tmp_path, option, sentence):
    with pytest.raises(UserError, match=sentence) as raised:
        _maker(tmp_path, **OPTIONS[option])([GradientSelection(keep=0.5)])
    assert "\n" not in str(raised.value)


def _half(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    return outputs.logits.float().square().mean()


def test_a_selection_refuses_a_loss_function_of_the_user(tmp_path):
    with pytest.raises(UserError, match="compute_loss_func trains another loss"):
        _maker(tmp_path, func=_half)([GradientSelection(keep=0.5)])
    assert _maker(tmp_path, func=_half)([GradientSelection(keep=0.5, rule="random")])._active


@pytest.mark.parametrize(
    "settings",
    [
        case("the beginnings of answers, bfd_split", {"packing_strategy": "bfd_split"}, outcome="refused", fast=True),
        case("the beginnings of answers, wrapped", {"packing_strategy": "wrapped"}, outcome="refused"),
        case(
            "the beginnings of answers, keep_end", {"packing": False, "truncation_mode": "keep_end"}, outcome="refused"
        ),
    ],
)
def test_the_beginnings_of_answers_need_whole_answers(tmp_path, settings):
    first = SafetyTokens(strength=1.0, tokens=WORDS, reference="model", first=1)
    with pytest.raises(UserError, match="cuts answers apart; change that"):
        _maker(tmp_path, **{"packing": True, "max_length": 24, **settings})([first])


@pytest.mark.parametrize(
    "name",
    [
        case(f"{name} + weight penalties", name, outcome="refused", fast=True)
        for name in ("lomo", "adalomo", "galore_adamw_layerwise")
    ],
)
def test_an_optimizer_that_steps_in_the_backward_pass_is_refused_at_construction(tmp_path, name):
    with pytest.raises(InactiveError, match="update_norm guards have no gradient left"):
        _maker(tmp_path, optim=name)([UpdateNorm(strength=1.0)])


def test_a_cache_cannot_be_made_of_a_stream(tmp_path):
    with pytest.raises(UserError, match="set reference: model"):
        run(_maker(tmp_path, rows=_stream), [SafetyTokens(strength=1.0, tokens=WORDS, reference="cache")])


@pytest.mark.parametrize("option", [case(f"cache, {name}", name) for name in ("lora_dropout", "NEFTune", "packing")])
def test_a_cached_reference_is_the_same(tmp_path, option):
    runs = [
        run(_maker(tmp_path, **OPTIONS[option]), [SafetyTokens(strength=3.0, tokens=WORDS, reference=reference)])
        for reference in ("model", "cache")
    ]
    assert distance(runs[0].watch.gradients[1], runs[1].watch.gradients[1]) < 1e-4


@pytest.mark.parametrize(
    "reference",
    [
        case("weights changed before train(), cache", "cache", fast=True),
        case("weights changed before train()", "model"),
    ],
)
def test_all_anchors_are_of_one_moment(tmp_path, reference):
    """Whoever changes the weights in between is held to those at construction, by every penalty."""
    safeguards = [UpdateNorm(strength=0.7), SafetyTokens(strength=3.0, tokens=WORDS, reference=reference)]
    trainer = _maker(tmp_path)(safeguards)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
    trainer.train()
    first = next(entry for entry in trainer.state.log_history if "safety/update_norm/value" in entry)
    assert first["safety/update_norm/value"] > 1e-3 and first["safety/safety_tokens/value"] > 1e-5


@pytest.mark.parametrize(
    "option",
    [
        case(f"accumulation, {name}", name)
        for name in ("TRL's defaults", "all parameters", "padding_free", "pad_to_multiple_of")
    ],
)
def test_neither_accumulation_nor_padding_changes_a_step(tmp_path, option):
    safeguards = [UpdateNorm(strength=0.7), SafetyTokens(strength=3.0, tokens=WORDS, reference="model")]
    settings = {"train_sampling_strategy": "sequential"}
    whole, split = (
        run(_maker(tmp_path, **{**OPTIONS[option], **settings, **sizes}), safeguards)
        for sizes in (
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 1},
            {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        )
    )
    for step in range(2):
        assert distance(split.watch.gradients[step], whole.watch.gradients[step]) < 1e-4
