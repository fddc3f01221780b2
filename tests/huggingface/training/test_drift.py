import random

import numpy as np
import pytest
import torch
from tests.huggingface.training.fixtures import LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, weights
from trl.trainer.sft_trainer import SFTTrainer

from moored.errors import InputError
from moored.huggingface.training import SafetyDrift, newest_complete
from moored.huggingface.training.drift import DriftSummary

pytestmark = THIRD_PARTY_WARNINGS

RUN = {
    "rows": token_rows(16),
    "eval_rows": token_rows(2),
    "eval_strategy": "steps",
    "eval_steps": 2,
    "max_steps": 5,
    "logging_steps": 1,
    "per_device_train_batch_size": 2,
    "dropout": 0.2,
    "lora": {**LORA, "lora_dropout": 0.2},
}


class Probe:
    """Falls by one nat a call, and draws at random as a careless probe would."""

    def __init__(self):
        self.calls = 0
        self.modes = set()

    def __call__(self, model):
        self.calls += 1
        self.modes |= {module.training for module in model.modules()}
        assert not torch.is_grad_enabled()
        _ = random.random(), np.random.rand(), torch.rand(3)
        return {"refusal_log_odds": 5.0 - self.calls, "kl_harmful": 0.1 * self.calls}


def _drift_log(trainer):
    return [
        (entry["step"], entry["safety/refusal_log_odds"], entry["safety/kl_harmful"])
        for entry in trainer.state.log_history
        if "safety/refusal_log_odds" in entry
    ]


def test_it_logs_at_the_start_at_evaluations_and_at_the_end(tmp_path):
    drift = SafetyDrift(probe := Probe())
    trainer = make_trainer(tmp_path, callbacks=[drift], **RUN)
    trainer.train()
    assert [(step, odds) for step, odds, _ in _drift_log(trainer)] == [(0, 4.0), (2, 3.0), (4, 2.0), (5, 1.0)]
    assert probe.modes == {False}
    assert drift.summary() == DriftSummary(
        start={"refusal_log_odds": 4.0, "kl_harmful": 0.1},
        end={"refusal_log_odds": 1.0, "kl_harmful": 0.4},
        stopped_at=None,
    )


def test_the_run_trains_as_if_it_were_not_there(tmp_path):
    watched = make_trainer(tmp_path, callbacks=[SafetyDrift(Probe())], **RUN)
    watched.train()
    plain = make_trainer(tmp_path, **RUN)
    plain.train()
    assert all(torch.equal(weights(watched)[name], weight) for name, weight in weights(plain).items())
    assert [e["loss"] for e in watched.state.log_history if "loss" in e] == [
        e["loss"] for e in plain.state.log_history if "loss" in e
    ]
    # TRL's own metrics stay with TRL's own entries.
    assert not any("entropy" in entry for entry in watched.state.log_history if "safety/kl_harmful" in entry)


def test_modes_and_random_states_are_left_as_found(tmp_path):
    trainer = make_trainer(tmp_path, callbacks=[drift := SafetyDrift(Probe())], **RUN)
    inner = next(module for module in trainer.model.modules() if isinstance(module, torch.nn.Dropout))
    trainer.model.train()
    inner.eval()
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state()
    drift.on_evaluate(trainer.args, trainer.state, trainer.control, model=trainer.model, metrics={})
    assert states[0] == random.getstate() and states[1] == str(np.random.get_state())
    assert torch.equal(states[2], torch.get_rng_state())
    assert trainer.model.training and not inner.training and torch.is_grad_enabled()


def test_it_stops_when_the_log_odds_fell_by_more_than_stated(tmp_path, caplog):
    drift = SafetyDrift(Probe(), stop=1.5)
    trainer = make_trainer(tmp_path, callbacks=[drift], **RUN)
    trainer.train()
    assert trainer.state.global_step == drift.stopped_at == 4
    assert "fell from 4.00 to 2.00, more than 1.5 nats" in caplog.text


def test_a_resumed_run_keeps_the_first_start(tmp_path):
    run = {**RUN, "save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path, callbacks=[SafetyDrift(Probe())], **{**run, "max_steps": 2}).train()
    drift = SafetyDrift(probe := Probe(), stop=1.5)
    probe.calls = 1
    trainer = make_trainer(tmp_path, callbacks=[drift], **run)
    trainer.train(str(newest_complete(tmp_path)))
    assert drift.start == {"refusal_log_odds": 4.0, "kl_harmful": pytest.approx(0.1)}
    assert [(step, odds) for step, odds, _ in _drift_log(trainer)][:3] == [(0, 4.0), (2, 3.0), (4, 3.0)]


def test_a_drift_can_choose_the_best_checkpoint(tmp_path):
    run = {**RUN, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    run |= {"metric_for_best_model": "safety/refusal_log_odds", "greater_is_better": True}
    trainer = make_trainer(tmp_path, callbacks=[SafetyDrift(Probe())], **run)
    trainer.train()
    assert trainer.state.best_global_step == 2 and trainer.state.best_metric == 3.0


def test_the_end_is_measured_on_the_weights_that_are_kept(tmp_path):
    run = {**RUN, "max_steps": 4, "save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    run |= {"metric_for_best_model": "safety/norm", "greater_is_better": False}
    drift = SafetyDrift(lambda model: {"norm": float(sum(weight.square().sum() for weight in model.parameters()))})
    trainer = make_trainer(tmp_path, callbacks=[drift], **run)
    trainer.train()
    assert trainer.state.best_global_step == 2
    with torch.no_grad():
        assert drift.summary().end == drift.probe(trainer.model)


def test_a_stock_trainer_hands_over_its_log(tmp_path):
    drift = SafetyDrift(Probe())
    trainer = make_trainer(tmp_path, trainer_class=SFTTrainer, callbacks=[drift], **RUN)
    with pytest.raises(InputError, match=r"pass log=trainer\.log"):
        trainer.train()
    drift.log = trainer.log
    trainer.train()
    assert len(_drift_log(trainer)) == 4


def test_what_cannot_stop_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be more than 0 nats, got 0"):
        SafetyDrift(Probe(), stop=0.0)
    drift = SafetyDrift(lambda model: {"other": 1.0}, stop=1.0)
    with pytest.raises(InputError, match="stops only on refusal_log_odds"):
        make_trainer(tmp_path, callbacks=[drift], **RUN).train()
    with pytest.raises(InputError, match="stops only at evaluations"):
        make_trainer(tmp_path, callbacks=[SafetyDrift(Probe(), stop=1.0)], **{**RUN, "eval_strategy": "no"}).train()
