"""Selection inside a trainer, against the plainest way to do it: score every row alone, then train on the kept ones."""

import pytest
import torch
from tests.huggingface.gradients.models import alone
from tests.huggingface.safeguards.selections import POOL, SELECTION, WARM_LORA, Stock, trained_in_order
from tests.huggingface.training.fixtures import (
    L2,
    LORA,
    THIRD_PARTY_WARNINGS,
    assert_close,
    make_trainer,
    token_rows,
    weights,
)
from tests.tiny import KINDS
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection
from moored.huggingface.safeguards import row_selection
from moored.huggingface.training import SafeguardedSFTTrainer
from moored.selection import RULES

pytestmark = THIRD_PARTY_WARNINGS


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
    ours, before = trained_in_order(
        tmp_path, rows=rows, safeguards=[selection], per_device_train_batch_size=POOL, **settings
    )
    torch.manual_seed(0)
    plain, start = trained_in_order(tmp_path, rows=rows.select(kept), per_device_train_batch_size=3, **settings)
    assert ours.state.global_step == plain.state.global_step == 1
    assert_close(before, start)
    assert_close(weights(ours), weights(plain))
    assert any(not torch.equal(weights(ours)[name], before[name]) for name in before)


def test_the_next_step_chooses_at_the_weights_of_that_moment(tmp_path):
    rows = token_rows(2 * POOL)
    settings = {"rows": rows, "lora": None, "learning_rate": 0.5}
    ours, _ = trained_in_order(tmp_path, safeguards=[SELECTION], per_device_train_batch_size=POOL, **settings)
    rule = SELECTION.make_rule()
    first = make_trainer(tmp_path, **settings)
    kept = _kept_by_hand(first.model, rows.select(range(POOL)), rule)
    stepped, _ = trained_in_order(tmp_path, **{**settings, "rows": rows.select(kept)}, per_device_train_batch_size=3)
    later = _kept_by_hand(stepped.model, rows.select(range(POOL, 2 * POOL)), rule, step=1)
    assert later != _kept_by_hand(first.model, rows.select(range(POOL, 2 * POOL)), rule, step=1)
    both = rows.select([*kept, *(POOL + row for row in later)])
    plain, _ = trained_in_order(tmp_path, **{**settings, "rows": both}, per_device_train_batch_size=3)
    assert_close(weights(ours), weights(plain))


def test_each_step_draws_anew(tmp_path):
    selection = GradientSelection(keep=0.4, rule="random")
    trainer, _ = trained_in_order(
        tmp_path, rows=token_rows(2 * POOL), safeguards=[selection], per_device_train_batch_size=POOL, logging_steps=1,
        logging_strategy="steps",
    )  # fmt: skip
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    for step, pool in enumerate(torch.tensor([4 + row % 7 for row in range(2 * POOL)]).split(POOL)):
        unknown = torch.full((POOL,), float("nan"))
        kept = pool[selection.make_rule()(unknown, unknown, pool, step=step)]
        assert logs[step]["safety/gradient_selection/length_kept"] == pytest.approx(kept.double().mean().item())
        assert "safety/gradient_selection/norm" not in logs[step], "nobody looked at the norms"


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
        run, _ = trained_in_order(
            tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size, **settings
        )
        assert run.state.global_step == 3
        runs.append(run)
    for run in runs[1:]:
        assert_close(weights(run), weights(runs[0]))
    reports = [run.safeguard_report()[0] for run in runs]
    assert reports[0] == reports[1] == reports[2]
    assert reports[0]["rows"] == rows and reports[0]["kept"] == sum(
        max(1, int(keep * pool)) for pool in (8, 8, rows - 16)
    )


def test_the_stock_trainer_selects_as_trl_does(tmp_path):
    settings = {"rows": token_rows(16, length=8), "lora": None, "safeguards": [SELECTION]}
    settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    stock, _ = trained_in_order(tmp_path, trainer_class=Stock, **settings)
    trl, _ = trained_in_order(tmp_path, **settings)
    assert_close(weights(stock), weights(trl))


@pytest.mark.parametrize("selection", [GradientSelection(keep=1.0), GradientSelection(keep=1.0, rule="random")])
def test_keeping_all_is_the_plain_run_bit_for_bit(tmp_path, selection, monkeypatch):
    monkeypatch.setattr(row_selection, "score", None)
    settings = {"rows": token_rows(12), "dropout": 0.1, "optim": "adamw_torch", "max_steps": 3, "max_grad_norm": 1.0}
    settings |= {"per_device_train_batch_size": 2, "lora": {**LORA, "lora_dropout": 0.1}}
    ours, _ = trained_in_order(tmp_path, safeguards=[selection], **settings)
    random_after = torch.random.get_rng_state()
    theirs, _ = trained_in_order(tmp_path, trainer_class=SFTTrainer, **settings)
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
    unscored, _ = trained_in_order(tmp_path, safeguards=[selection], **settings)
    monkeypatch.setattr(RULES["random"], "scored", True)
    scored, _ = trained_in_order(tmp_path, safeguards=[selection], logging_steps=1, **settings)
    assert "safety/gradient_selection/norm" in scored.state.log_history[0]
    for name, weight in weights(unscored).items():
        assert torch.equal(weights(scored)[name], weight)


def test_checkpointing_and_evaluation_change_nothing(tmp_path, monkeypatch):
    """Neither the weights nor the memory: outside training mode nothing would be checkpointed."""
    modes, plainly = [], row_selection.score
    monkeypatch.setattr(
        row_selection, "score", lambda model, batch: modes.append(model.training) or plainly(model, batch)
    )
    settings = {"rows": token_rows(16), "lora": WARM_LORA, "safeguards": [SELECTION], "per_device_train_batch_size": 8}
    torch.manual_seed(0)
    plain, _ = trained_in_order(tmp_path, **settings)
    torch.manual_seed(0)
    other, _ = trained_in_order(
        tmp_path, gradient_checkpointing=True, eval_rows=token_rows(4), eval_strategy="steps", eval_steps=1, **settings
    )
    assert_close(weights(plain), weights(other))
    assert modes == [True] * 4


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
    plain, _ = trained_in_order(tmp_path, **settings)
    other, _ = trained_in_order(tmp_path, eval_rows=token_rows(4), eval_strategy="steps", eval_steps=1, **settings)
    other.lending.train()
    assert_close(weights(plain), weights(other))
