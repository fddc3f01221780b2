"""Selection inside a trainer, against the plainest way to do it: score every row alone, then train on the kept ones."""

import pytest
import torch
from datasets import Dataset
from tests.huggingface.training.fixtures import L2, LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, weights
from tests.huggingface.training.scoring.models import alone, make
from tests.tiny import KINDS
from transformers import Trainer, XGLMConfig, XGLMForCausalLM, default_data_collator
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection
from moored.errors import InactiveError, InputError
from moored.huggingface.training import SafeguardedSFTTrainer, SafeguardMixin, newest_complete
from moored.huggingface.training.online_selection import OnlineSelection
from moored.selection import RULES

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

POOL = 8
SELECTION = GradientSelection(keep=0.4)  # 3 of 8
IN_ORDER = {"train_sampling_strategy": "sequential"}
WARM_LORA = {**LORA, "init_lora_weights": False}


def _trained(tmp_path, **settings):
    trainer = make_trainer(tmp_path, **{"num_train_epochs": 1, **IN_ORDER, **settings})
    before = weights(trainer)
    trainer.train()
    return trainer, before


def _close(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


def _kept_by_hand(model, rows, rule, step=0):
    """Row numbers, scored one at a time by `backward()`."""
    samples = [(torch.tensor(row["input_ids"]), torch.tensor(row["labels"])) for row in rows]
    scores = alone(model, samples)
    losses, norms = (torch.tensor([getattr(each, name) for each in scores]) for name in ("loss", "norm"))
    lengths = torch.tensor([int((labels[1:] != -100).sum()) for _, labels in samples])
    return rule(losses, norms, lengths, step=step).tolist()


@pytest.mark.parametrize("lora", [WARM_LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", RULES)
def test_a_step_is_a_plain_step_on_the_rows_that_are_kept_by_hand(tmp_path, rule, kind, lora):
    rows = token_rows(POOL)
    settings = {"kind": kind, "lora": lora, "max_grad_norm": 0.5}
    selection = GradientSelection(keep=0.4, rule=rule, seed=5)
    torch.manual_seed(0)
    untrained = make_trainer(tmp_path, rows=rows, **settings).model
    kept = _kept_by_hand(untrained, rows, selection.make_rule())
    assert len(kept) == 3
    torch.manual_seed(0)
    ours, before = _trained(tmp_path, rows=rows, safeguards=[selection], per_device_train_batch_size=POOL, **settings)
    torch.manual_seed(0)
    plain, start = _trained(tmp_path, rows=rows.select(kept), per_device_train_batch_size=3, **settings)
    assert ours.state.global_step == plain.state.global_step == 1
    _close(before, start)
    _close(weights(ours), weights(plain))
    assert any(not torch.equal(weights(ours)[name], before[name]) for name in before)


def test_the_next_step_chooses_at_the_weights_of_that_moment(tmp_path):
    rows = token_rows(2 * POOL)
    settings = {"rows": rows, "lora": None, "learning_rate": 0.5}
    ours, _ = _trained(tmp_path, safeguards=[SELECTION], per_device_train_batch_size=POOL, **settings)
    rule = SELECTION.make_rule()
    first = make_trainer(tmp_path, **settings)
    kept = _kept_by_hand(first.model, rows.select(range(POOL)), rule)
    stepped, _ = _trained(tmp_path, **{**settings, "rows": rows.select(kept)}, per_device_train_batch_size=3)
    later = _kept_by_hand(stepped.model, rows.select(range(POOL, 2 * POOL)), rule, step=1)
    assert later != _kept_by_hand(first.model, rows.select(range(POOL, 2 * POOL)), rule, step=1)
    both = rows.select([*kept, *(POOL + row for row in later)])
    plain, _ = _trained(tmp_path, **{**settings, "rows": both}, per_device_train_batch_size=3)
    _close(weights(ours), weights(plain))


@pytest.mark.parametrize("lora", [WARM_LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("keep", [0.2, 0.6])
@pytest.mark.parametrize("rows", [24, 20], ids=["even", "short-last-window"])
def test_accumulation_does_not_change_the_step(tmp_path, rows, keep, lora):
    """With a penalty in the run, that a task gradient of another size would show against; some batches are empty."""
    settings = {"rows": token_rows(rows), "lora": lora, "max_grad_norm": 1.0}
    settings["safeguards"] = [GradientSelection(keep=keep), L2(strength=0.5)]
    runs = []
    for size in (8, 4, 1):
        torch.manual_seed(0)
        run, _ = _trained(tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size, **settings)
        assert run.state.global_step == 3
        runs.append(run)
    for run in runs[1:]:
        _close(weights(run), weights(runs[0]))
    reports = [run.safeguard_report()[0] for run in runs]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["rows"] == rows and reports[0]["kept"] == sum(
        max(1, int(keep * pool)) for pool in (8, 8, rows - 16)
    )


@pytest.mark.parametrize("settings", [{"padding_free": True, "max_length": None}, {"packing": True, "max_length": 24}])
@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_packed_documents_are_chosen_like_padded_rows(tmp_path, settings):
    rows = token_rows(POOL, length=8)
    run = {"lora": None, "safeguards": [SELECTION]}
    packed, _ = _trained(
        tmp_path, rows=rows, per_device_train_batch_size=2 if "packing" in settings else 4,
        gradient_accumulation_steps=2, **settings, **run,
    )  # fmt: skip
    assert packed.state.global_step == 1
    assert {key: packed.safeguard_report()[0][key] for key in ("rows", "kept")} == {"rows": 8, "kept": 3}
    # Packing puts the rows in another order.
    order = [
        document
        for row in packed.train_dataset
        for document in _documents(row["input_ids"], row.get("seq_lengths") or [len(row["input_ids"])])
    ]
    as_packed = Dataset.from_list([{"input_ids": ids, "labels": [-100, -100, *ids[2:]]} for ids in order])
    padded, _ = _trained(tmp_path, rows=as_packed, per_device_train_batch_size=POOL, **run)
    _close(weights(packed), weights(padded))


def _documents(ids, lengths):
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@pytest.mark.parametrize("selection", [GradientSelection(keep=1.0), GradientSelection(keep=1.0, rule="random")])
def test_keeping_all_is_the_plain_run_bit_for_bit(tmp_path, selection, monkeypatch):
    from moored.huggingface.training import mixin

    monkeypatch.setattr(mixin, "score", None)
    settings = {"rows": token_rows(12), "dropout": 0.1, "optim": "adamw_torch", "max_steps": 3, "max_grad_norm": 1.0}
    settings |= {"per_device_train_batch_size": 2, "lora": {**LORA, "lora_dropout": 0.1}}
    ours, _ = _trained(tmp_path, safeguards=[selection], **settings)
    random_after = torch.random.get_rng_state()
    theirs, _ = _trained(tmp_path, trainer_class=SFTTrainer, **settings)
    assert torch.equal(random_after, torch.random.get_rng_state())
    for name, weight in weights(theirs).items():
        assert torch.equal(weights(ours)[name], weight) and weights(ours)[name].dtype == weight.dtype
    assert not any(key.startswith("safety/") for entry in ours.state.log_history for key in entry)
    assert ours.safeguard_report() == [{"name": "gradient_selection", "on": False}]


def test_scoring_draws_nothing_from_the_random_state(tmp_path, monkeypatch):
    """A rule that is scored in vain sees the dropout that it sees unscored."""
    settings = {"rows": token_rows(POOL, length=8), "dropout": 0.3, "lora": {**LORA, "lora_dropout": 0.3}}
    settings |= {"per_device_train_batch_size": 8, "max_steps": 3, "optim": "adamw_torch"}
    selection = GradientSelection(keep=0.5, rule="random")
    unscored, _ = _trained(tmp_path, safeguards=[selection], **settings)
    monkeypatch.setattr(RULES["random"], "scored", True)
    scored, _ = _trained(tmp_path, safeguards=[selection], logging_steps=1, **settings)
    assert "safety/gradient_selection/norm" in scored.state.log_history[0]
    for name, weight in weights(unscored).items():
        assert torch.equal(weights(scored)[name], weight)


def test_checkpointing_and_evaluation_change_nothing(tmp_path):
    settings = {"rows": token_rows(16), "lora": WARM_LORA, "safeguards": [SELECTION], "per_device_train_batch_size": 8}
    torch.manual_seed(0)
    plain, _ = _trained(tmp_path, **settings)
    torch.manual_seed(0)
    other, _ = _trained(
        tmp_path, gradient_checkpointing=True, eval_rows=token_rows(4), eval_strategy="steps", eval_steps=1, **settings
    )
    _close(weights(plain), weights(other))


def test_batches_left_empty_stay_out_of_the_logged_means(tmp_path):
    settings = {"rows": token_rows(POOL), "safeguards": [GradientSelection(keep=0.2)], "logging_steps": 1}
    settings |= {"logging_strategy": "steps", "lora": None}
    whole, _ = _trained(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = _trained(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    one, other = whole.state.log_history[0], split.state.log_history[0]
    for key in ("loss", "entropy", "mean_token_accuracy", "safety/gradient_selection/norm"):
        assert one[key] == pytest.approx(other[key], rel=1e-4), key
    assert one["entropy"] > 0


def test_a_penalty_counts_once_also_where_the_last_batch_is_empty(tmp_path):
    """By hand: from equal weights, a step with the penalty differs by −η·λ·2(W − W₀) whatever batch came last."""
    rows = token_rows(2 * POOL)
    settings = {"rows": rows, "lora": None, "learning_rate": 0.05, "safeguards": [GradientSelection(keep=0.2)]}
    settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    first, before = _trained(tmp_path, **{**settings, "rows": rows.select(range(POOL))})
    plain, _ = _trained(tmp_path, **settings)
    held, _ = _trained(tmp_path, **{**settings, "safeguards": [*settings["safeguards"], L2(strength=0.5)]})
    guarded = {weight.name + ".weight" for weight in held._held[0].weights}
    for name in guarded:
        expected = -0.05 * 0.5 * 2 * (weights(first)[name] - before[name])
        torch.testing.assert_close(weights(held)[name] - weights(plain)[name], expected, atol=1e-7, rtol=1e-3)


def test_it_is_announced_logged_and_reported(tmp_path, capsys):
    trainer, _ = _trained(
        tmp_path, rows=token_rows(16), safeguards=[SELECTION], per_device_train_batch_size=8, logging_steps=1,
        logging_strategy="steps",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "gradient_selection: keeps 3 of the 8 rows of each step (keep 0.4) by the rule moderate" in printed
    assert "gradient_selection kept 6 of the 16 rows that it saw, with " in printed
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    for entry in (first, second):
        own = {key.rsplit("/", 1)[1]: value for key, value in entry.items() if key.startswith("safety/")}
        assert own.keys() == {"kept", "norm", "norm_kept", "length", "length_kept"}
        assert own["kept"] == 3 / 8 and own["norm"] > 0 and own["norm"] != own["norm_kept"]
    assert first["safety/gradient_selection/length"] == pytest.approx(sum(4 + n % 7 for n in range(8)) / 8)
    (report,) = trainer.safeguard_report()
    settings = {"name": "gradient_selection", "on": True, "rule": "moderate", "keep": 0.4, "seed": 0}
    lengths = {name: report.pop(name) for name in ("length", "length_kept")}
    assert report == {**settings, "rows": 16, "kept": 6}
    assert lengths["length"] == pytest.approx(sum(4 + n % 7 for n in range(16)) / 16)
    kept = [entry["safety/gradient_selection/length_kept"] for entry in (first, second)]
    assert lengths["length_kept"] == pytest.approx(sum(kept) / 2)


def test_a_resumed_run_chooses_as_an_uninterrupted_one(tmp_path):
    settings = {"rows": token_rows(24), "safeguards": [GradientSelection(keep=0.4, rule="random", seed=3)]}
    settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "optim": "adamw_torch"}
    settings |= {"save_strategy": "steps", "save_steps": 3, "dropout": 0.1}
    whole, _ = _trained(tmp_path / "whole", **settings)
    _trained(tmp_path / "cut", **settings, max_steps=3)
    resumed = make_trainer(tmp_path / "cut", num_train_epochs=1, **IN_ORDER, **settings)
    resumed.train(str(newest_complete(tmp_path / "cut")))
    assert resumed.state.global_step == whole.state.global_step == 6
    for name, weight in weights(whole).items():
        assert torch.equal(weights(resumed)[name], weight)


def test_a_checkpoint_of_another_selection_is_not_resumed(tmp_path):
    settings = {"rows": token_rows(16), "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
    _trained(tmp_path, safeguards=[SELECTION], max_steps=2, **settings)
    other = make_trainer(tmp_path, safeguards=[GradientSelection(keep=0.5)], num_train_epochs=1, **settings)
    with pytest.raises(InputError, match="other safeguards"):
        other.train(str(newest_complete(tmp_path)))


def test_a_single_row_leaves_nothing_to_choose(tmp_path):
    with pytest.raises(InactiveError, match="has one only; raise per_device_train_batch_size"):
        make_trainer(tmp_path, rows=token_rows(4), safeguards=[SELECTION], per_device_train_batch_size=1)


@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_a_single_document_a_step_is_noticed_at_the_end(tmp_path):
    trainer = make_trainer(
        tmp_path,
        rows=token_rows(4),
        safeguards=[SELECTION],
        per_device_train_batch_size=1,
        padding_free=True,
        max_length=None,
    )
    with pytest.raises(InactiveError, match="left no row out"):
        trainer.train()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"packing": True, "packing_strategy": "wrapped", "max_length": 16}, "packing_strategy: wrapped cuts apart"),
        ({"fp16": True}, "too small for fp16"),
        ({"safeguards": [SELECTION, SELECTION]}, "gradient_selection is given twice"),
    ],
)
def test_what_cannot_be_selected_is_refused_before_training(tmp_path, settings, sentence, monkeypatch):
    if "fp16" in settings:
        monkeypatch.setattr(
            "transformers.training_args.TrainingArguments._validate_args", lambda self: None, raising=False
        )
    with pytest.raises(InputError, match=sentence):
        make_trainer(tmp_path, rows=token_rows(8), **{"safeguards": [SELECTION], **settings})


class Stock(SafeguardMixin, Trainer):
    """The Trainer of transformers, which reads rows of one length."""

    def __init__(self, counts=True, **kwargs):
        kwargs.pop("peft_config")
        super().__init__(data_collator=default_data_collator, **kwargs)
        self.model_accepts_loss_kwargs = counts

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["input_ids", "labels"]


class Dividing(Stock):
    """It cannot count tokens."""

    def __init__(self, **kwargs):
        super().__init__(counts=False, **kwargs)


def test_the_stock_trainer_selects_as_trl_does(tmp_path):
    settings = {"rows": token_rows(16, length=8), "lora": None, "safeguards": [SELECTION]}
    settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    stock, _ = _trained(tmp_path, trainer_class=Stock, **settings)
    trl, _ = _trained(tmp_path, **settings)
    _close(weights(stock), weights(trl))


def test_a_trainer_that_divides_by_batches_is_refused(tmp_path):
    settings = {"rows": token_rows(8, length=8), "lora": None, "safeguards": [SELECTION]}
    trainer = make_trainer(tmp_path, trainer_class=Dividing, per_device_train_batch_size=4, **settings)
    with pytest.raises(InputError, match="divides by the micro-batches"):
        trainer.train()


def test_a_trainer_that_never_hands_over_its_batches_is_noticed_at_once(tmp_path, monkeypatch):
    """As another version of transformers might, which fetches them another way."""
    monkeypatch.setattr(SafeguardMixin, "get_batch_samples", Trainer.get_batch_samples)
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[SELECTION], per_device_train_batch_size=4)
    with pytest.raises(InactiveError, match="was handed no rows"):
        trainer.train()
    assert trainer.state.global_step == 0


class Lending(torch.optim.SGD):
    """Lends the weights a tenth of their value outside training, as schedule-free optimizers lend an average."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.own = None

    def _weights(self):
        return [weight for group in self.param_groups for weight in group["params"]]

    @torch.no_grad()
    def eval(self):
        self.own = self.own or [weight.clone() for weight in self._weights()]
        for weight, own in zip(self._weights(), self.own, strict=True):
            weight.copy_(own / 10)

    @torch.no_grad()
    def train(self):
        for weight, own in zip(self._weights(), self.own or [], strict=bool(self.own)):
            weight.copy_(own)
        self.own = None


class LendingTrainer(SafeguardedSFTTrainer):
    def create_optimizer(self, model=None):
        assert self.model is not None
        self.optimizer = self.lending = Lending(self.model.parameters(), lr=0.1)
        return self.optimizer


def test_rows_are_scored_at_the_weights_that_are_trained_also_after_an_evaluation(tmp_path):
    settings = {"rows": token_rows(3 * POOL), "lora": None, "safeguards": [SELECTION], "trainer_class": LendingTrainer}
    settings["per_device_train_batch_size"] = POOL
    plain, _ = _trained(tmp_path, **settings)
    other, _ = _trained(tmp_path, eval_rows=token_rows(4), eval_strategy="steps", eval_steps=1, **settings)
    other.lending.train()
    _close(weights(plain), weights(other))


def test_batches_left_empty_do_not_train_a_router(tmp_path, monkeypatch):
    """One kept row, in one batch and in one of eight."""
    monkeypatch.setattr(
        "tests.huggingface.training.fixtures.tiny_model",
        lambda *_, **__: make("mixtral", router_jitter_noise=0.0, attention_dropout=0.0, router_aux_loss_coef=1.0),
    )
    settings = {"rows": token_rows(POOL), "lora": None, "safeguards": [GradientSelection(keep=0.2)], "logging_steps": 1}
    whole, _ = _trained(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = _trained(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    _close(weights(whole), weights(split))
    one, other = whole.state.log_history[0], split.state.log_history[0]
    for key in ("loss", "aux_loss", "entropy"):
        assert one[key] == pytest.approx(other[key], rel=1e-4), key
    assert one["aux_loss"] > 0 and split.router_aux_loss_coef == 1.0


@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_documents_that_stood_one_a_batch_do_not_meet(tmp_path, monkeypatch):
    """XGLM lets packed documents see one another, which a run of one document a batch never shows."""
    monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, **__: _xglm())
    ids = [torch.arange(3 + n, 3 + n + length).tolist() for n, length in enumerate((4, 4, 4, 4, 30, 30, 30, 30))]
    settings = {"rows": Dataset.from_list([{"input_ids": row, "labels": row} for row in ids]), "lora": None}
    settings |= {"safeguards": [GradientSelection(keep=0.8)], "learning_rate": 0.01}
    settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    alone, _ = _trained(tmp_path, padding_free=True, max_length=None, **settings)
    padded, _ = _trained(tmp_path, **settings)
    _close(weights(alone), weights(padded))


def _xglm():
    sizes = {"vocab_size": 384, "d_model": 16, "ffn_dim": 32, "num_layers": 2, "attention_heads": 2}
    torch.manual_seed(0)
    none = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    return XGLMForCausalLM(XGLMConfig(**sizes, **none, max_position_embeddings=64, init_std=0.2, eos_token_id=2))


def test_rows_with_nothing_to_learn_stay_out_of_the_logged_means(tmp_path):
    """The stock trainer keeps them in the pool; TRL drops them beforehand."""
    rows = [dict(row) for row in token_rows(POOL, length=8)]
    for row in rows[::2]:
        row["labels"] = [-100] * 8
    settings = {"lora": None, "trainer_class": Stock, "logging_steps": 1}
    half, _ = _trained(
        tmp_path, rows=Dataset.from_list(rows), safeguards=[SELECTION], per_device_train_batch_size=8, **settings
    )
    learned, _ = _trained(
        tmp_path, rows=Dataset.from_list(rows[1::2]), safeguards=[GradientSelection(keep=0.8)],
        per_device_train_batch_size=4, **settings,
    )  # fmt: skip
    _close(weights(half), weights(learned))
    one, other = half.state.log_history[0], learned.state.log_history[0]
    for key in ("norm", "norm_kept", "length", "length_kept"):
        name = f"safety/gradient_selection/{key}"
        assert one[name] == pytest.approx(other[name], rel=1e-4), key
    assert one["safety/gradient_selection/kept"] == 3 / 8


def test_a_row_without_any_token_does_not_stand_in_for_an_empty_batch():
    blank = {"input_ids": torch.zeros(2, 4, dtype=torch.long), "labels": torch.full((2, 4), -100)}
    full = {"input_ids": torch.full((2, 4), 5), "labels": torch.full((2, 4), 5)}
    batches = [
        {**full, "attention_mask": torch.ones(2, 4)},
        {**full, "attention_mask": torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]])},
        {**blank, "attention_mask": torch.tensor([[0, 0, 0, 0], [1, 1, 1, 0]])},
    ]
    running = OnlineSelection(GradientSelection(keep=0.2, rule="random"), process=0, pool=6)
    chosen = running.choose(batches, lambda batch: pytest.fail("random looks at nothing"), 0)
    labelled = [bool((batch["labels"] != -100).any()) for batch in chosen]
    assert labelled.count(True) == 1 and running.filled == 1 / 3
    assert all(batch["input_ids"].numel() for batch in chosen)
