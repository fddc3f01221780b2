from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tests.huggingface.training.fixtures import (
    L2,
    LORA,
    THIRD_PARTY_WARNINGS,
    assert_close,
    make_trainer,
    token_rows,
    trained,
    weights,
)
from tests.tiny import KINDS, tiny_model
from torch import Tensor
from transformers import Trainer, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from moored.errors import InactiveError, InputError
from moored.huggingface.training import SafeguardMixin
from moored.tensors.low_rank import Matrix, whole

pytestmark = THIRD_PARTY_WARNINGS


class Dividing(SafeguardMixin, Trainer):
    """The stock Trainer with a model that cannot count tokens: it divides the loss by the micro-batches itself."""

    def __init__(self, **kwargs):
        kwargs.pop("peft_config")
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = False

    def _set_signature_columns_if_needed(self):
        self._signature_columns = ["input_ids", "labels"]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("rows", [24, 20], ids=["even", "short-last-window"])
def test_accumulation_does_not_change_the_step(tmp_path, lora, rows):
    settings = {"rows": token_rows(rows), "lora": lora, "safeguards": [L2(strength=0.5)], "num_train_epochs": 1}
    whole, before = trained(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = trained(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    assert whole.state.global_step == split.state.global_step == 3
    assert_close(weights(whole), weights(split))
    plain, _ = trained(tmp_path, per_device_train_batch_size=8, **{**settings, "safeguards": []})
    moved = max((weights(plain)[name] - weights(whole)[name]).abs().max() for name in before)
    assert moved > 1e-3  # the tolerance above would notice a penalty counted eight times


def test_accumulation_where_the_trainer_divides_the_loss(tmp_path):
    from transformers import default_data_collator

    class Same(Dividing):
        def __init__(self, **kwargs):
            super().__init__(data_collator=default_data_collator, **kwargs)

    settings = {"rows": token_rows(20, length=8), "lora": None, "trainer_class": Same, "safeguards": [L2(strength=0.5)]}
    settings["num_train_epochs"] = 1
    whole, _ = trained(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = trained(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    assert_close(weights(whole), weights(split))


def test_the_second_step_differs_by_the_gradient_of_the_penalty(tmp_path):
    """By hand: the first step has no penalty; the second adds −η·λ·2(W₁ − W₀) on the linear layers and nothing else."""
    settings = {"rows": token_rows(16), "lora": None, "per_device_train_batch_size": 2}
    settings |= {"gradient_accumulation_steps": 4, "learning_rate": 0.05}
    first, before = trained(tmp_path, max_steps=1, **settings)
    plain, _ = trained(tmp_path, max_steps=2, **settings)
    held, _ = trained(tmp_path, max_steps=2, safeguards=[L2(strength=0.5)], **settings)
    after_one, after_plain, after_held = weights(first), weights(plain), weights(held)
    guarded = {weight.name + ".weight" for weight in held._active[0].weights}
    assert len(guarded) == 14
    for name in before:
        expected = -0.05 * 0.5 * 2 * (after_one[name] - before[name]) if name in guarded else torch.zeros(())
        torch.testing.assert_close(
            after_held[name] - after_plain[name], expected.expand_as(before[name]), atol=1e-7, rtol=1e-3
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("safeguards", [[], [L2(strength=0.0)]], ids=["none", "off"])
def test_without_an_active_safeguard_the_weights_are_those_of_trl(tmp_path, kind, safeguards):
    settings = {"rows": token_rows(12), "kind": kind, "dropout": 0.1, "optim": "adamw_torch", "max_steps": 3}
    settings |= {"per_device_train_batch_size": 2, "lora": {**LORA, "lora_dropout": 0.1}, "max_grad_norm": 1.0}
    ours, _ = trained(tmp_path, safeguards=safeguards, **settings)
    random_after = torch.random.get_rng_state()
    theirs, _ = trained(tmp_path, trainer_class=SFTTrainer, **settings)
    assert torch.equal(random_after, torch.random.get_rng_state())
    for name, weight in weights(theirs).items():
        assert torch.equal(weights(ours)[name], weight) and weights(ours)[name].dtype == weight.dtype
    assert not any(key.startswith("safety/") for entry in ours.state.log_history for key in entry)


@dataclass(frozen=True, kw_only=True)
class Idle(L2):
    name: str = "idle"

    def weight_penalty(self, update: Matrix, guide: Any) -> Tensor:
        return 0 * whole(update).sum()


@dataclass(frozen=True, kw_only=True)
class Detached(L2):
    name: str = "detached"

    def weight_penalty(self, update: Matrix, guide: Any) -> Tensor:
        return whole(update).detach().square().sum() + 1


def test_a_penalty_that_stays_at_zero_raises_once_the_weights_have_moved(tmp_path):
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[Idle(strength=1.0)], max_steps=3)
    with pytest.raises(InactiveError, match="idle is still exactly zero although 6 weights"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_it_raises_after_the_last_step_too(tmp_path):
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[Idle(strength=1.0)], max_steps=1)
    with pytest.raises(InactiveError, match="idle"):
        trainer.train()
    assert trainer.state.global_step == 1


def test_zero_is_right_while_nothing_has_moved(tmp_path, caplog):
    settings = {"rows": token_rows(8), "safeguards": [Idle(strength=1.0)], "max_steps": 2, "learning_rate": 0.0}
    trained(tmp_path, **settings)
    assert "idle guards never moved" in caplog.text


def test_a_penalty_without_a_gradient_raises(tmp_path):
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[Detached(strength=1.0)], max_steps=1)
    with pytest.raises(InactiveError, match="detached has no gradient"):
        trainer.train()


def test_nothing_to_guard_raises_before_training(tmp_path):
    lora = {"r": 2, "target_modules": ["embed_tokens"]}
    with pytest.raises(InactiveError, match="l2 guards nothing"):
        make_trainer(tmp_path, rows=token_rows(4), lora=lora, safeguards=[L2(strength=1.0)])


class _NoPenalty:
    name, strength, needs = "hope", 1.0, frozenset()


@pytest.mark.parametrize(
    ("safeguards", "sentence"),
    [
        ([L2(strength=1.0), L2(strength=2.0)], "l2 is given twice"),
        (
            [L2(strength=1.0, needs=frozenset({"oracle"}))],
            "l2 needs oracle, which is none of base, harm",
        ),
        ([L2(strength=-1.0)], "strength of l2 is -1.0"),
        ([L2(strength=float("nan"))], "strength of l2 is nan"),
        ([L2(strength="auto")], "strength of l2 is auto; give a number"),  # pyright: ignore[reportArgumentType]
        ([_NoPenalty()], "hope is of no known kind"),
    ],
)
def test_a_safeguard_that_cannot_work_is_refused(tmp_path, safeguards, sentence):
    with pytest.raises(InputError, match=sentence):
        make_trainer(tmp_path, rows=token_rows(4), safeguards=safeguards)


def test_the_share_of_a_run_that_logs_no_loss_is_not_zero(tmp_path, capsys):
    run = {"rows": token_rows(8), "safeguards": [L2(strength=0.5)], "max_steps": 4, "per_device_train_batch_size": 2}
    quiet, _ = trained(tmp_path / "quiet", **run, logging_steps=500)
    printed = capsys.readouterr().out
    once, _ = trained(tmp_path / "once", **run, logging_steps=4)
    (logged,) = (entry for entry in once.state.log_history if "loss" in entry)
    share = quiet.safeguard_report()[0]["share"]
    assert share == pytest.approx(logged["safety/l2/share"], rel=1e-4) and share > 0
    assert f"l2 made up {100 * share:.3g}% of the total loss" in printed


def test_each_safeguard_is_announced_and_logged(tmp_path, capsys):
    safeguards = [L2(strength=0.5), L2(strength=0.0, name="resting"), L2(strength=0.25, name="half")]
    trainer, _ = trained(
        tmp_path, rows=token_rows(16), safeguards=safeguards, max_steps=2, logging_steps=1, logging_strategy="steps",
        per_device_train_batch_size=2, gradient_accumulation_steps=2,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "l2: strength 0.5, holds 6 weights (100% of what is trained)" in printed
    assert "resting: off (strength 0)" in printed
    first, second = (entry for entry in trainer.state.log_history if "loss" in entry)
    assert first["safety/l2/value"] == 0.0 and first["safety/l2/share"] == 0.0
    assert second["safety/l2/value"] > 0
    weighed = 0.5 * second["safety/l2/value"]
    assert second["safety/l2/share"] == pytest.approx(weighed / (second["loss"] + 1.5 * weighed))
    assert second["safety/half/share"] == pytest.approx(second["safety/l2/share"] / 2)
    assert not any("resting" in key for key in second)
    assert f"l2 made up {100 * second['safety/l2/share']:.3g}% of the total loss" in printed
    assert trainer.safeguard_report() == [
        {"name": "l2", "on": True, "strength": 0.5, "holds": 6, "share": second["safety/l2/share"]},
        {"name": "resting", "on": False},
        {"name": "half", "on": True, "strength": 0.25, "holds": 6, "share": second["safety/half/share"]},
    ]


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_a_relative_strength_is_the_ratio_of_the_two_gradients(tmp_path, lora):
    """By hand: the second step adds −η·s·‖g‖·p/‖p‖, with the loss's g and the penalty's p on the guarded weights."""
    settings = {"rows": token_rows(16), "lora": lora, "per_device_train_batch_size": 8, "learning_rate": 0.05}
    settings |= {"logging_steps": 1, "logging_strategy": "steps"}
    first, before = trained(tmp_path, max_steps=1, **settings)
    plain, _ = trained(tmp_path, max_steps=2, **settings)
    held, _ = trained(tmp_path, max_steps=2, safeguards=[L2(strength=0.3, relative=True)], **settings)
    one, plainly, relatively = weights(first), weights(plain), weights(held)
    names = [name for name in one if lora or name.endswith("_proj.weight")]
    own = _gradients_of_l2(first, before) if lora else {name: 2 * (one[name] - before[name]) for name in names}
    task = {name: (one[name] - plainly[name]) / 0.05 for name in names}
    ratio = _norm(task) / _norm(own)
    for name in names:
        expected = -0.05 * 0.3 * ratio * own[name]
        torch.testing.assert_close(relatively[name] - plainly[name], expected, atol=1e-6, rtol=1e-3)
    logged = [entry for entry in held.state.log_history if "loss" in entry][1]
    assert logged["safety/l2/gradient_ratio"] == pytest.approx(0.3, rel=1e-4)


def _gradients_of_l2(trainer, before):
    now = {name: weight.clone().requires_grad_() for name, weight in weights(trainer).items()}
    products = [2.0 * now[name.replace("lora_A", "lora_B")] @ now[name] for name in now if "lora_A" in name]
    value = torch.stack([product.square().sum() for product in products]).sum()
    return dict(zip(now, torch.autograd.grad(value, [*now.values()]), strict=True))


def _norm(tensors):
    return torch.stack([each.square().sum() for each in tensors.values()]).sum().sqrt()


def test_an_optimizer_that_steps_in_the_backward_pass_is_noticed_at_once(tmp_path):
    """As LOMO and GaLore's layerwise form do: a gradient that comes later would never be used."""
    trainer = make_trainer(tmp_path, rows=token_rows(8), safeguards=[L2(strength=1.0)], max_steps=3)

    def step(parameter: Tensor) -> None:
        parameter.grad = None

    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(step)
    with pytest.raises(InactiveError, match="l2 guards have no gradient left"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_model_that_is_made_anew_by_train_is_refused(tmp_path):
    class Mine(SafeguardMixin, Trainer): ...

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    with pytest.raises(InputError, match="l2 would guard a model that is not trained"):
        Mine(model_init=lambda: tiny_model(), args=arguments, safeguards=[L2(strength=1.0)])
    Mine(model_init=lambda: tiny_model(), args=arguments, safeguards=[L2(strength=0.0)])
