"""Safety tokens that hold nothing are noticed, and those that only seem so are not."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from tests.huggingface.safeguards.token_penalties import Dividing, holding
from tests.huggingface.training.fixtures import (
    THIRD_PARTY_WARNINGS,
    make_trainer,
    token_rows,
    trained,
    weights,
)
from tests.tiny import tiny_model, tiny_tokenizer
from transformers import Trainer
from trl.trainer.sft_trainer import SFTTrainer

from moored import SafetyTokens
from moored.errors import InactiveError, InputError
from moored.huggingface.safeguards.cached_logits import CachedLogits
from moored.huggingface.safeguards.token_penalty import ActiveTokenPenalty
from moored.huggingface.training import SafeguardMixin

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]


def test_a_run_without_a_guarded_position_ends_with_an_error():
    held = ActiveTokenPenalty(holding(reference="model"), tiny_model().train(), tiny_tokenizer())
    with pytest.raises(InactiveError, match="guarded nothing: no row"):
        held.finish()


class Rewriting(SafeguardMixin, SFTTrainer):
    """Trains on other tokens than its dataset holds, as an augmentation does."""

    def _prepare_inputs(self, inputs: Any) -> Any:
        inputs = super()._prepare_inputs(inputs)
        if self.state.global_step:
            inputs["input_ids"] = inputs["input_ids"] + 1
        return inputs


def test_what_cannot_be_held_is_refused(tmp_path, monkeypatch):
    rows = token_rows(8)
    with pytest.raises(InputError, match=r"safety_tokens has no tokens; give it .*moored\.find_safety_tokens"):
        make_trainer(tmp_path, rows=rows, safeguards=[SafetyTokens(strength=1.0)])
    with pytest.raises(InputError, match="form: kl compares tokens, and has only one"):
        alone = SafetyTokens(strength=1.0, tokens=(" canno",), form="kl")
        make_trainer(tmp_path, rows=rows, safeguards=[alone])
    with pytest.raises(InputError, match="is 5 tokens of this tokenizer"):
        make_trainer(tmp_path, rows=rows, safeguards=[SafetyTokens(strength=1.0, tokens=("zebra",))])
    with pytest.raises(InputError, match=r"lacks document \d of a batch"):
        trained(tmp_path, rows=rows, safeguards=[holding()], trainer_class=Rewriting, max_steps=2)
    with pytest.raises(InactiveError, match="No row of the training set has a token to learn"):
        unlabelled = Dataset.from_list([{**row, "labels": [-100] * 8} for row in token_rows(8, length=8)])
        trained(tmp_path, rows=unlabelled, lora=None, safeguards=[holding()], trainer_class=Dividing, max_steps=1)
    head = "moored.huggingface.safeguards.token_penalty.SalientHead"
    monkeypatch.setattr(f"{head}.logits", lambda self, h: h.detach()[:, :3])
    with pytest.raises(InactiveError, match="safety_tokens has no gradient"):
        trained(tmp_path, rows=rows, safeguards=[holding()], max_steps=2)


def test_logits_that_stay_although_the_weights_move_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "moored.huggingface.safeguards.token_penalty.ActiveTokenPenalty.reference",
        lambda self, batch: self.now.detach(),
    )
    original = SafeguardMixin.compute_loss

    def watched(self, model, inputs, *args, **kwargs):
        from moored.huggingface.safeguards.guarded_logits import guarded_positions

        (held,) = self._active
        parts = held._head._parts
        with torch.no_grad():
            hidden = parts.backbone(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
            held.now = held._head.logits(hidden.last_hidden_state[guarded_positions(inputs)])
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SafeguardMixin, "compute_loss", watched)
    with pytest.raises(InactiveError, match="exactly those of the start although the weights have moved"):
        trained(tmp_path, rows=token_rows(8), safeguards=[holding()], max_steps=3, per_device_train_batch_size=4)


def test_a_trainer_that_never_hands_over_its_batches_is_noticed_at_once(tmp_path, monkeypatch):
    """As another version of transformers might, which fetches them another way."""
    monkeypatch.setattr(SafeguardMixin, "get_batch_samples", Trainer.get_batch_samples)
    with pytest.raises(InactiveError, match="did not see its step begin"):
        trained(tmp_path, rows=token_rows(8), safeguards=[holding()], max_steps=2)


@pytest.mark.parametrize("reference", ["cache", "model"])
def test_steps_too_small_for_the_precision_of_the_logits_are_no_idle_penalty(tmp_path, caplog, monkeypatch, reference):
    """As in a warm-up: the weights have moved, and in bf16 every logit is still what it was, but for rounding."""
    found = CachedLogits.of
    monkeypatch.setattr(CachedLogits, "of", lambda self, batch: 1.003 * found(self, batch))
    settings = {"rows": token_rows(16, length=12), "optim": "adamw_torch", "learning_rate": 1e-6, "bf16": True}
    run, before = trained(
        tmp_path, safeguards=[holding(reference=reference)], max_steps=4, per_device_train_batch_size=4, **settings
    )
    assert any(not torch.equal(weight, before[name]) for name, weight in weights(run).items())
    assert "safety_tokens guards never moved by more than rounding" in caplog.text
