"""Safety tokens count alike however a step is cut into micro-batches, packed or scaled."""

import pytest
import torch
from tests.huggingface.safeguards.token_penalties import WARM_LORA, Dividing, holding
from tests.huggingface.training.fixtures import (
    THIRD_PARTY_WARNINGS,
    assert_close,
    make_trainer,
    token_rows,
    trained,
    weights,
)
from torch.nn.functional import cross_entropy

from moored import UpdateNorm

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]


@pytest.mark.parametrize("lora", [WARM_LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize("rows", [24, 20], ids=["even", "short-last-window"])
def test_accumulation_does_not_change_the_step(tmp_path, rows, lora):
    settings = {"rows": token_rows(rows), "lora": lora, "logging_steps": 1, "logging_strategy": "steps"}
    settings |= {"max_grad_norm": 1.0, "num_train_epochs": 1, "train_sampling_strategy": "sequential"}
    runs = []
    for size in (8, 2, 1):
        torch.manual_seed(0)
        guard = holding(5.0, first=3)
        run, _ = trained(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            safeguards=[guard],
            **settings,
        )
        runs.append(run)
    plain, _ = trained(tmp_path, per_device_train_batch_size=8, **settings)
    logs = [[entry for entry in run.state.log_history if "loss" in entry] for run in runs]
    assert len(logs[0]) == 3
    for run, log in zip(runs[1:], logs[1:], strict=True):
        assert_close(weights(run), weights(runs[0]))
        for one, other in zip(logs[0], log, strict=True):
            for key in ("loss", "value", "share", "gradient_norm", "gradient_ratio"):
                key = key if key == "loss" else f"safety/safety_tokens/{key}"
                assert one[key] == pytest.approx(other[key], rel=2e-3, abs=1e-5), key
    # The first step has no penalty yet, and the logged loss is the task's alone.
    assert logs[0][0]["safety/safety_tokens/value"] == pytest.approx(0, abs=1e-9)
    assert logs[0][1]["safety/safety_tokens/value"] > 0 < logs[0][1]["safety/safety_tokens/gradient_ratio"]
    assert logs[0][0]["loss"] == pytest.approx(plain.state.log_history[0]["loss"], rel=1e-5)


def test_accumulation_where_the_trainer_divides_the_loss(tmp_path):
    settings = {"rows": token_rows(20, length=8), "lora": None, "safeguards": [holding(1.0)], "num_train_epochs": 1}
    whole, _ = trained(tmp_path, trainer_class=Dividing, per_device_train_batch_size=4, **settings)
    split, _ = trained(
        tmp_path, trainer_class=Dividing, per_device_train_batch_size=1, gradient_accumulation_steps=4, **settings
    )
    trl, _ = trained(tmp_path, per_device_train_batch_size=4, **settings)
    assert_close(weights(whole), weights(split))
    assert_close(weights(whole), weights(trl))


class OwnLoss(Dividing):
    """As above, with a loss of its own that counts the tokens of the whole step: nobody divides."""

    def __init__(self, **kwargs):
        super().__init__(compute_loss_func=_per_token, **kwargs)


def _per_token(outputs, labels, num_items_in_batch):
    return cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / (
        num_items_in_batch
    )


def test_accumulation_where_a_loss_function_counts_the_tokens(tmp_path):
    settings = {"rows": token_rows(20, length=8), "lora": None, "safeguards": [holding(1.0)], "num_train_epochs": 1}
    whole, _ = trained(tmp_path, trainer_class=OwnLoss, per_device_train_batch_size=4, **settings)
    split, _ = trained(
        tmp_path, trainer_class=OwnLoss, per_device_train_batch_size=1, gradient_accumulation_steps=4, **settings
    )
    assert_close(weights(whole), weights(split))


@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
@pytest.mark.parametrize("reference", ["cache", "model"])
def test_packed_documents_are_held_like_padded_rows(tmp_path, reference):
    settings = {
        "rows": token_rows(8),
        "lora": None,
        "safeguards": [holding(5.0, reference=reference)],
        "num_train_epochs": 2,
    }
    settings["train_sampling_strategy"] = "sequential"
    packed, _ = trained(
        tmp_path,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        padding_free=True,
        max_length=None,
        **settings,
    )
    padded, _ = trained(tmp_path, per_device_train_batch_size=8, **settings)
    assert packed.state.global_step == padded.state.global_step == 2
    assert_close(weights(packed), weights(padded))


@pytest.mark.parametrize("size", [8, 2], ids=["whole", "accumulated"])
def test_a_gradient_scaler_changes_neither_steps_nor_logs(tmp_path, size):
    """The one of fp16, at work on both kinds of penalty."""
    settings = {"rows": token_rows(16), "num_train_epochs": 2, "logging_steps": 1, "logging_strategy": "steps"}
    settings |= {"per_device_train_batch_size": size, "gradient_accumulation_steps": 8 // size}
    settings |= {"safeguards": [holding(5.0), UpdateNorm(strength=0.5)]}
    torch.manual_seed(0)
    plain, _ = trained(tmp_path, **settings)
    torch.manual_seed(0)
    scaled = make_trainer(tmp_path, **settings)
    scaled.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled.train()
    assert_close(weights(scaled), weights(plain))
    for one, other in zip(plain.state.log_history[:4], scaled.state.log_history[:4], strict=True):
        own = {key: value for key, value in one.items() if key == "loss" or key.startswith("safety/")}
        assert len(own) == 9 and own == pytest.approx({key: other[key] for key in own}, rel=1e-3, abs=1e-6)
