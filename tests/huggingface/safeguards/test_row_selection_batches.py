"""Selection from batches that are packed, or that it leaves empty, or that hold rows with nothing to learn."""

import pytest
import torch
from datasets import Dataset
from tests.huggingface.gradients.models import make
from tests.huggingface.safeguards.selections import POOL, SELECTION, Stock, trained_in_order
from tests.huggingface.training.fixtures import L2, THIRD_PARTY_WARNINGS, assert_close, token_rows, weights
from transformers import XGLMConfig, XGLMForCausalLM

from moored import GradientSelection

pytestmark = THIRD_PARTY_WARNINGS


@pytest.mark.parametrize("settings", [{"padding_free": True, "max_length": None}, {"packing": True, "max_length": 24}])
@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_packed_documents_are_chosen_like_padded_rows(tmp_path, settings):
    rows = token_rows(POOL, length=8)
    run = {"lora": None, "safeguards": [SELECTION]}
    packed, _ = trained_in_order(
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
    padded, _ = trained_in_order(tmp_path, rows=as_packed, per_device_train_batch_size=POOL, **run)
    assert_close(weights(packed), weights(padded))


def _documents(ids, lengths):
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [ids[end - length : end] for end, length in zip(ends, lengths, strict=True)]


@pytest.mark.filterwarnings("ignore:.*(attention implementation|padding-free|max_length).*:UserWarning")
def test_documents_that_stood_one_a_batch_do_not_meet(tmp_path, monkeypatch):
    """XGLM lets packed documents see one another, which a run of one document a batch never shows."""
    monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, **__: _xglm())
    ids = [torch.arange(3 + n, 3 + n + length).tolist() for n, length in enumerate((4, 4, 4, 4, 30, 30, 30, 30))]
    settings = {"rows": Dataset.from_list([{"input_ids": row, "labels": row} for row in ids]), "lora": None}
    settings |= {"safeguards": [GradientSelection(keep=0.8)], "learning_rate": 0.01}
    settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    alone, _ = trained_in_order(tmp_path, padding_free=True, max_length=None, **settings)
    padded, _ = trained_in_order(tmp_path, **settings)
    assert_close(weights(alone), weights(padded))


def _xglm():
    sizes = {"vocab_size": 384, "d_model": 16, "ffn_dim": 32, "num_layers": 2, "attention_heads": 2}
    torch.manual_seed(0)
    none = dict.fromkeys(("dropout", "attention_dropout", "activation_dropout"), 0.0)
    return XGLMForCausalLM(XGLMConfig(**sizes, **none, max_position_embeddings=64, init_std=0.2, eos_token_id=2))


def test_batches_left_empty_stay_out_of_the_logged_means(tmp_path):
    settings = {"rows": token_rows(POOL), "safeguards": [GradientSelection(keep=0.2)], "logging_steps": 1}
    settings |= {"logging_strategy": "steps", "lora": None}
    whole, _ = trained_in_order(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = trained_in_order(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    one, other = whole.state.log_history[0], split.state.log_history[0]
    for key in ("loss", "entropy", "mean_token_accuracy", "safety/gradient_selection/norm"):
        assert one[key] == pytest.approx(other[key], rel=1e-4), key
    assert one["entropy"] > 0


def test_batches_left_empty_do_not_train_a_router(tmp_path, monkeypatch):
    """One kept row, in one batch and in one of eight."""
    monkeypatch.setattr(
        "tests.huggingface.training.fixtures.tiny_model",
        lambda *_, **__: make("mixtral", router_jitter_noise=0.0, attention_dropout=0.0, router_aux_loss_coef=1.0),
    )
    settings = {"rows": token_rows(POOL), "lora": None, "safeguards": [GradientSelection(keep=0.2)], "logging_steps": 1}
    whole, _ = trained_in_order(tmp_path, per_device_train_batch_size=8, **settings)
    split, _ = trained_in_order(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **settings)
    assert_close(weights(whole), weights(split))
    one, other = whole.state.log_history[0], split.state.log_history[0]
    for key in ("loss", "aux_loss", "entropy"):
        assert one[key] == pytest.approx(other[key], rel=1e-4), key
    assert one["aux_loss"] > 0 and split.router_aux_loss_coef == 1.0


def test_a_penalty_counts_once_also_where_the_last_batch_is_empty(tmp_path):
    """By hand: from equal weights, a step with the penalty differs by −η·λ·2(W − W₀) whatever batch came last."""
    rows = token_rows(2 * POOL)
    settings = {"rows": rows, "lora": None, "learning_rate": 0.05, "safeguards": [GradientSelection(keep=0.2)]}
    settings |= {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    first, before = trained_in_order(tmp_path, **{**settings, "rows": rows.select(range(POOL))})
    plain, _ = trained_in_order(tmp_path, **settings)
    held, _ = trained_in_order(tmp_path, **{**settings, "safeguards": [*settings["safeguards"], L2(strength=0.5)]})
    guarded = {weight.name + ".weight" for weight in held._active[1].weights}
    for name in guarded:
        expected = -0.05 * 0.5 * 2 * (weights(first)[name] - before[name])
        torch.testing.assert_close(weights(held)[name] - weights(plain)[name], expected, atol=1e-7, rtol=1e-3)


def test_rows_with_nothing_to_learn_stay_out_of_the_logged_means(tmp_path):
    """The stock trainer keeps them in the pool; TRL drops them beforehand."""
    rows = [dict(row) for row in token_rows(POOL, length=8)]
    for row in rows[::2]:
        row["labels"] = [-100] * 8
    settings = {"lora": None, "trainer_class": Stock, "logging_steps": 1}
    half, _ = trained_in_order(
        tmp_path, rows=Dataset.from_list(rows), safeguards=[SELECTION], per_device_train_batch_size=8, **settings
    )
    learned, _ = trained_in_order(
        tmp_path, rows=Dataset.from_list(rows[1::2]), safeguards=[GradientSelection(keep=0.8)],
        per_device_train_batch_size=4, **settings,
    )  # fmt: skip
    assert_close(weights(half), weights(learned))
    one, other = half.state.log_history[0], learned.state.log_history[0]
    for key in ("norm", "norm_kept", "length", "length_kept"):
        name = f"safety/gradient_selection/{key}"
        assert one[name] == pytest.approx(other[name], rel=1e-4), key
    assert one["safety/gradient_selection/kept"] == 3 / 8
