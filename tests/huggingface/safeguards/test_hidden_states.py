"""The hidden states of a pass are seen whole, whatever stands between the trainer and the model."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
from tests.huggingface.training.fixtures import LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows
from tests.tiny import tiny_model
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments

from moored.errors import InactiveError, InputError
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions
from moored.huggingface.safeguards.hidden_states import hidden_states
from moored.huggingface.training.compact_head import compact_head
from moored.huggingface.training.mixin import SafeguardMixin

pytestmark = THIRD_PARTY_WARNINGS
BATCH = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9], [15, 16, 17, 0, 0]]),
    "labels": torch.tensor([[-100, -100, 7, 8, 9], [-100, 16, 17, -100, -100]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
GUARDED = guarded_positions(BATCH)


def _wrapped(kind: str) -> tuple[Any, Any]:
    """A model in its wrapper, and the model."""
    model = tiny_model().train()
    if kind == "checkpointed":
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if kind in ("peft", "both"):
        model = get_peft_model(model, LoraConfig(**LORA))
    if kind == "compiled":
        return torch.compile(model, backend="eager"), model
    return (DistributedDataParallel(model) if kind in ("ddp", "both") else model), model


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", ["plain", "peft", "ddp", "both", "checkpointed"])
@pytest.mark.usefixtures("one_process")
def test_they_are_seen_under_wrappers(kind: str):
    outer, model = _wrapped(kind)
    with hidden_states(outer) as seen:
        logits = outer(**BATCH).logits
    hidden = seen.at(GUARDED)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    assert hidden.requires_grad and not inner.model._forward_hooks
    torch.testing.assert_close(inner.lm_head(hidden), logits[GUARDED])


def test_a_hook_that_hands_on_fewer_positions_hides_none():
    model = tiny_model()
    model.model.register_forward_hook(lambda module, args, output: type(output)(output[0][:, -1:]))
    with hidden_states(model) as seen:
        assert model(**BATCH | {"labels": None}).logits.shape[1] == 1
    assert len(seen.at(GUARDED)) == GUARDED.sum()


@pytest.mark.parametrize("compact", [False, True], ids=["trl", "compact"])
@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_they_are_seen_under_a_fused_head(tmp_path, lora: Any, compact: bool):
    trainer = make_trainer(tmp_path, rows=token_rows(4), lora=lora, per_device_train_batch_size=4)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    guarded = guarded_positions(batch)
    expected = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[guarded]
    if compact:
        compact_head(trainer.model)

    with hidden_states(trainer.model) as seen:
        loss = trainer.compute_loss(trainer.model, batch)
    found = SalientHead(trainer.model, [7, 9]).logits(seen.at(guarded))
    torch.testing.assert_close(found, expected[:, [7, 9]], rtol=1e-5, atol=1e-5)
    (loss + found.square().mean()).backward()
    assert all(each.grad is not None for each in trainer.model.parameters() if each.requires_grad)


def test_they_are_seen_in_a_plain_trainer(tmp_path):
    class Plain(SafeguardMixin, Trainer): ...

    arguments = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    trainer = Plain(model=tiny_model().train(), args=arguments, train_dataset=token_rows(4))
    with hidden_states(trainer.model) as seen:
        trainer.compute_loss(trainer.model, BATCH)
    assert seen.at(GUARDED).shape == (int(GUARDED.sum()), 16)


def test_those_with_a_graph_are_kept():
    model = tiny_model().train()
    with hidden_states(model) as seen:
        with torch.no_grad():
            model(input_ids=torch.zeros_like(BATCH["input_ids"]))
        model(**BATCH)
        with torch.no_grad():
            model(input_ids=torch.zeros_like(BATCH["input_ids"]))
    torch.testing.assert_close(model.lm_head(seen.at(GUARDED)), model(**BATCH).logits[GUARDED])
    assert seen.at(GUARDED).requires_grad


def test_no_pass_is_an_error():
    model = tiny_model()
    with hidden_states(model) as seen:
        pass
    with pytest.raises(InactiveError, match="saw no hidden states") as raised:
        seen.at(GUARDED)
    assert str(raised.value).endswith(".") and "\n" not in str(raised.value)
    assert not model.model._forward_hooks


def test_no_hook_stays_after_an_exception():
    model = tiny_model()
    with pytest.raises(ZeroDivisionError), hidden_states(model):
        raise ZeroDivisionError
    assert not model.model._forward_hooks


def test_virtual_tokens_are_refused():
    model = get_peft_model(tiny_model(), PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=3))
    with hidden_states(model) as seen:
        model(**BATCH)
    with pytest.raises(InputError, match="2×5 positions and the model's hidden states have 2×8"):
        seen.at(GUARDED)
