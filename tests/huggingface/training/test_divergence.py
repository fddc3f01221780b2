"""A training that came to NaN or infinity is an error where a safeguard is on; elsewhere it goes on as ever."""

import pytest
import torch
from tests.huggingface.training.fixtures import L2, THIRD_PARTY_WARNINGS, make_trainer, token_rows

from moored.errors import DivergedError
from moored.huggingface.training.divergence import Divergence

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

HUGE = {"learning_rate": 0.1, "weight_decay": 1e35, "optim": "adamw_torch", "lora": None}
HUGE |= {"max_steps": 4, "per_device_train_batch_size": 2}


def _run(folder, **settings):
    trainer = make_trainer(folder, rows=token_rows(8), **{**HUGE, **settings})
    trainer.train()
    return trainer


@pytest.mark.parametrize("filtered", [True, False])
def test_a_diverged_run_with_a_safeguard_is_an_error(tmp_path, filtered):
    settings = {"safeguards": [L2(strength=0.1)], "logging_nan_inf_filter": filtered}
    with pytest.raises(DivergedError, match=r"diverged: the loss .* finite number since step 3; try .*\.$"):
        _run(tmp_path, **settings)


def test_no_checkpoint_of_a_diverged_run_is_written(tmp_path):
    with pytest.raises(DivergedError):
        _run(tmp_path, safeguards=[L2(strength=0.1)], save_strategy="steps", save_steps=1)
    assert [each.name for each in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.parametrize("safeguards", [[], [L2(strength=0.0)]], ids=["none", "off"])
def test_without_a_safeguard_the_run_is_the_plain_one(tmp_path, safeguards):
    trainer = _run(tmp_path, safeguards=safeguards)
    assert trainer.state.global_step == 4
    trainer.refuse_divergence = True
    with pytest.raises(DivergedError):
        trainer.train()


def test_a_last_step_that_broke_the_weights_is_seen_in_them(tmp_path):
    with pytest.raises(DivergedError, match=r"after step 2 \S+ holds NaN or infinity"):
        _run(tmp_path, safeguards=[L2(strength=0.1)], max_steps=2)


def test_the_weights_are_looked_at_where_the_loss_says_nothing():
    model, watch = torch.nn.Linear(2, 2), Divergence()
    watch.watch(torch.tensor(1.0), 1)
    watch.refuse(model, 1, lambda tensor: tensor)
    with torch.no_grad():
        model.weight[1, 0] = float("inf")
    with pytest.raises(DivergedError, match="after step 7 weight holds NaN or infinity"):
        watch.refuse(model, 7, lambda tensor: tensor)
    watch.refuse(model.requires_grad_(False), 7, lambda tensor: tensor)
    with pytest.raises(DivergedError, match="a weight of another process"):
        watch.refuse(model, 7, lambda tensor: tensor + 1)


def test_a_loss_that_became_finite_again_is_no_divergence():
    model, watch = torch.nn.Linear(2, 2), Divergence()
    for step, loss in enumerate([1.0, float("nan"), 2.0], 1):
        watch.watch(torch.tensor(loss), step)
    watch.refuse(model, 3, lambda tensor: tensor)
    for step in (4, 5):
        watch.watch(torch.tensor(float("nan")), step)
    with pytest.raises(DivergedError, match="since step 4;"):
        watch.refuse(model, 5, lambda tensor: tensor)
