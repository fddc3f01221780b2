"""A third kind of penalty joins the trainer by its file and one entry of the registry."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from tests.huggingface.training.fixtures import (
    L2,
    THIRD_PARTY_WARNINGS,
    make_trainer,
    token_rows,
    trained,
    weights,
)

from moored.errors import InputError
from moored.huggingface.safeguards import registry
from moored.huggingface.safeguards.interface import ActiveSafeguard, SafeguardReport, share_in_words
from moored.huggingface.safeguards.registry import KINDS

pytestmark = THIRD_PARTY_WARNINGS
RATE = 0.05
SETTINGS = {"lora": None, "learning_rate": RATE, "max_steps": 1, "logging_steps": 1, "logging_strategy": "steps"}


@dataclass(frozen=True, kw_only=True)
class Calm:
    """A penalty on the size of hidden states and of gradients."""

    strength: float
    name: str = "calm"
    needs: frozenset[str] = frozenset({"hidden_states"})


@dataclass(frozen=True, kw_only=True)
class CalmReport(SafeguardReport):
    """The penalty's share of what was minimized."""

    share: float | None


class ActiveCalm(ActiveSafeguard):
    """Adds the mean square of the hidden states to the loss, and shrinks the gradients by a tenth."""

    def __init__(self, safeguard: Calm, trainer: Any) -> None:
        self.safeguard, self._model, self.values = safeguard, trainer.model, []
        self.hooks: list[str] = []

    def before_training(self) -> None:
        self.hooks.append("before_training")

    def before_step(self, batches: Any) -> Any:
        self.hooks.append("before_step")
        self._size = sum(batch["input_ids"].numel() for batch in batches)
        return batches

    def in_loss(self, batch: Any) -> Callable[[Any], Any]:
        self.hooks.append("in_loss")
        return partial(self._term, torch.ones_like(batch["input_ids"], dtype=torch.bool))

    def _term(self, everywhere: Any, states: Any) -> Any:
        value = self.safeguard.strength * states.at(everywhere).square().sum() / self._size
        self.values.append(value.item())
        return value

    def after_backward(self, scale: float) -> Callable[[], None]:
        self.hooks.append("after_backward")
        return self._shrink

    def _shrink(self) -> None:
        for parameter in self._model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(0.9)

    def announce(self) -> str:
        return "calms"

    def drain(self) -> dict[str, float]:
        self.contribution = sum(self.values) if self.values else None
        self.values = []
        return {} if self.contribution is None else {"value": self.contribution}

    def finish(self) -> str:
        return share_in_words(self.share)

    def report(self) -> CalmReport:
        return CalmReport(share=self.share)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(KINDS, Calm, ActiveCalm)


def _of_one_step(model, rows):
    """By hand: the task's gradients, those of the hidden states' mean square, and the value of that."""
    parameters = dict(model.named_parameters())
    batch = [torch.tensor(rows[name]) for name in ("input_ids", "labels")]
    loss = model(input_ids=batch[0], labels=batch[1]).loss
    value = model.model(input_ids=batch[0]).last_hidden_state.square().sum() / batch[0].numel()
    task, own = (torch.autograd.grad(each, [*parameters.values()], materialize_grads=True) for each in (loss, value))
    return dict(zip(parameters, zip(task, own, strict=True), strict=True)), value.item(), loss.item()


@pytest.mark.parametrize("size", [8, 2], ids=["whole", "accumulated"])
def test_it_acts_on_loss_and_gradients(tmp_path, size, capsys):
    rows = token_rows(8, length=8)
    gradients, value, loss = _of_one_step(make_trainer(tmp_path, rows=rows, **SETTINGS).model, rows[:])
    settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size, **SETTINGS}
    run, before = trained(tmp_path, rows=rows, safeguards=[Calm(strength=0.3)], **settings)
    for name, (task, own) in gradients.items():
        expected = -RATE * 0.9 * (task + 0.3 * own)
        torch.testing.assert_close(weights(run)[name] - before[name], expected, atol=1e-6, rtol=1e-3)
    logged = run.state.log_history[0]
    assert logged["loss"] == pytest.approx(loss, rel=1e-4), "the logged loss is the task's alone"
    assert logged["safety/calm/value"] == pytest.approx(0.3 * value, rel=1e-4)
    share = 0.3 * value / (loss + 0.3 * value)
    assert run.safeguard_report() == [{"name": "calm", "on": True, "share": pytest.approx(share, rel=1e-4)}]
    assert f"calm made up {100 * share:.3g}% of the total loss" in capsys.readouterr().out


def test_its_hooks_are_called_in_the_order_of_a_step(tmp_path):
    settings = {**SETTINGS, "max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    run, _ = trained(tmp_path, rows=token_rows(8), safeguards=[Calm(strength=0.3)], **settings)
    assert run._active[0].hooks == ["before_training", *2 * ["before_step", "in_loss", "in_loss", "after_backward"]]


def test_each_safeguard_sees_the_gradients_of_the_loss_alone(tmp_path, monkeypatch):
    """Whichever comes first: the new kind shrinks the gradients by which the other one sets its strength."""
    settings = {**SETTINGS, "rows": token_rows(16), "per_device_train_batch_size": 8, "max_steps": 2}
    safeguards = [L2(strength=0.3, relative=True), Calm(strength=1e-9)]
    monkeypatch.setattr(ActiveCalm, "in_loss", lambda self, batch: None)
    ratios = []
    for order in (list(KINDS), list(reversed(KINDS))):
        monkeypatch.setattr(registry, "KINDS", {kind: KINDS[kind] for kind in order})
        run, _ = trained(tmp_path, safeguards=safeguards, **settings)
        assert isinstance(run._active[0], ActiveCalm) == (order[0] is Calm)
        ratios.append([entry for entry in run.state.log_history if "loss" in entry][1])
    for name in ("safety/l2/gradient_norm", "safety/l2/gradient_ratio"):
        assert ratios[0][name] == pytest.approx(ratios[1][name], rel=1e-5)


def test_without_the_entry_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.delitem(KINDS, Calm)
    with pytest.raises(InputError, match="calm is of no known kind"):
        make_trainer(tmp_path, rows=token_rows(4), safeguards=[Calm(strength=1.0)])
