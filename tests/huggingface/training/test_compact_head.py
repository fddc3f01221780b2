import pytest
import torch
from tests.huggingface.training.fixtures import LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, weights
from tests.tiny import KINDS

from moored.huggingface.training.compact_head import compact_head

pytestmark = THIRD_PARTY_WARNINGS


def _both(tmp_path, **settings):
    """The same trainer twice: as TRL has it, and with the head given labelled positions alone."""
    plain, compact = (make_trainer(tmp_path / name, rows=token_rows(12), **settings) for name in ("plain", "compact"))
    compact_head(compact.model)
    return plain, compact


def _batch(trainer):
    return next(iter(trainer.get_train_dataloader()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_a_run_ends_in_the_same_weights(tmp_path, kind, lora):
    plain, compact = _both(tmp_path, kind=kind, lora=lora, per_device_train_batch_size=4, num_train_epochs=1)
    before = weights(plain)
    plain.train()
    compact.train()

    ours = weights(compact)
    for name, weight in weights(plain).items():
        torch.testing.assert_close(ours[name], weight, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(ours[name], before[name]) for name in before)


def test_what_trl_logs_is_the_same(tmp_path):
    plain, compact = _both(tmp_path, per_device_train_batch_size=4, num_train_epochs=1, logging_steps=1)
    logs = []
    for trainer in (plain, compact):
        trainer.train()
        logs.append(
            [(log["loss"], log["entropy"], log["mean_token_accuracy"]) for log in trainer.state.log_history[:3]]
        )
    assert logs[1] == [pytest.approx(log, rel=1e-5) for log in logs[0]]


def test_the_head_sees_labelled_positions_alone(tmp_path):
    _, trainer = _both(tmp_path)
    batch = _batch(trainer)

    output = trainer.model(**batch, fused_lm_head=True)

    assert output.log_probs.shape == (1, int((batch["labels"][:, 1:] != -100).sum()))
    assert bool(output.label_mask.all())


def test_a_batch_without_labels_is_a_differentiable_zero(tmp_path):
    _, trainer = _both(tmp_path)
    batch = _batch(trainer)
    batch["labels"] = torch.full_like(batch["labels"], -100)

    loss = trainer.model(**batch, fused_lm_head=True).loss
    loss.backward()

    assert loss.item() == 0


def test_other_calls_are_left_alone_and_no_hook_stays(tmp_path):
    plain, trainer = _both(tmp_path)
    batch = _batch(trainer)
    trainer.model(**batch, fused_lm_head=True)
    inputs = {name: value for name, value in batch.items() if name != "labels"}

    torch.testing.assert_close(trainer.model(**inputs).logits, plain.model(**inputs).logits)
    torch.testing.assert_close(trainer.model(**batch).loss, plain.model(**batch).loss)
