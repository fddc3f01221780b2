"""Safety tokens in a trainer, against the autograd of the formula on the whole vocabulary's logits."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.huggingface.safeguards.token_penalties import IDS, RATE, SETTINGS, WARM_LORA, holding
from tests.huggingface.training.fixtures import (
    LORA,
    THIRD_PARTY_WARNINGS,
    make_trainer,
    token_rows,
    trained,
    weights,
)
from tests.tiny import KINDS, tiny_model
from trl.trainer.sft_trainer import SFTTrainer

from moored import AlignmentDirection, GradientSelection, SafetyTokens
from moored.huggingface.training import newest_complete

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]


def _rows_of(rows, numbers):
    """Rows as padded tensors and the mask of positions whose next token is learned."""
    ids = [torch.tensor(rows[number]["input_ids"]) for number in numbers]
    labels = [torch.tensor(rows[number]["labels"]) for number in numbers]
    return ids, [row[1:] != -100 for row in labels]


def _dense_penalty(model, start, ids, guarded, form):
    """The formula of the issue, on all logits of each row by itself."""
    total, count = torch.zeros(()), 0
    for row, mask in zip(ids, guarded, strict=True):
        z, reference = (each(input_ids=row[None]).logits[0, :-1][mask].float() for each in (model, start))
        reference = reference.detach()
        if form == "centred":
            z, reference = z - z.mean(-1, keepdim=True), reference - reference.mean(-1, keepdim=True)
        z, reference = z[:, IDS], reference[:, IDS]
        if form == "kl":
            p, q = z.log_softmax(-1), reference.log_softmax(-1)
            total = total + (q.exp() * (q - p)).sum()
        else:
            off = (reference - z).clamp_min(0) if form == "hinge" else z - reference
            total = total + off.square().sum()
        count += int(mask.sum())
    return total / (count * len(IDS))


CASES = [
    ("llama", "logits"),
    ("llama", "centred"),
    ("llama", "kl"),
    ("llama", "hinge"),
    ("qwen2", "logits"),
    ("gemma", "kl"),
]


@pytest.mark.parametrize("reference", ["cache", "model"])
@pytest.mark.parametrize("lora", [WARM_LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize(("kind", "form"), CASES)
def test_the_second_step_differs_by_the_gradient_of_the_dense_formula(tmp_path, kind, form, lora, reference):
    rows = token_rows(8)
    settings = {**SETTINGS, "rows": rows, "kind": kind, "lora": lora}
    guard = holding(20.0, form=form, reference=reference)
    torch.manual_seed(0)
    start = make_trainer(tmp_path, **settings).model.eval()
    torch.manual_seed(0)
    first, _ = trained(tmp_path, max_steps=1, **settings)
    torch.manual_seed(0)
    plain, _ = trained(tmp_path, num_train_epochs=1, **settings)
    torch.manual_seed(0)
    held, _ = trained(tmp_path, num_train_epochs=1, safeguards=[guard], **settings)
    model = first.model.eval()
    value = _dense_penalty(model, start, *_rows_of(rows, range(4, 8)), form)
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(value, [dict(model.named_parameters())[name] for name in names])
    after_plain, after_held = weights(plain), weights(held)
    moved = 0.0
    for name, gradient in zip(names, gradients, strict=True):
        step = -RATE * 20.0 * gradient
        torch.testing.assert_close(after_held[name] - after_plain[name], step, atol=5e-6, rtol=1e-3)
        moved = max(moved, float(step.abs().max()))
    assert moved > 5e-5  # Ten times the tolerance.


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_plain_run_bit_for_bit(tmp_path, kind):
    settings = {"rows": token_rows(12), "kind": kind, "dropout": 0.1, "optim": "adamw_torch", "max_steps": 3}
    settings |= {"per_device_train_batch_size": 2, "lora": {**LORA, "lora_dropout": 0.1}}
    ours, _ = trained(tmp_path, safeguards=[SafetyTokens(strength=0.0)], **settings)
    theirs, _ = trained(tmp_path, trainer_class=SFTTrainer, **settings)
    for name, weight in weights(theirs).items():
        assert torch.equal(weights(ours)[name], weight) and weights(ours)[name].dtype == weight.dtype


@pytest.mark.parametrize("reference", ["cache", "model"])
def test_references_draw_nothing_and_change_nothing(tmp_path, reference):
    """So weak a penalty does not show in fp32; all else must be the plain run, dropout included."""
    settings = {"rows": token_rows(12), "dropout": 0.2, "lora": {**LORA, "lora_dropout": 0.2}, "max_steps": 3}
    settings |= {"per_device_train_batch_size": 2, "gradient_checkpointing": True}
    held, _ = trained(tmp_path, safeguards=[holding(1e-20, reference=reference)], **settings)
    plain, _ = trained(tmp_path, **settings)
    for name, weight in weights(plain).items():
        assert torch.equal(weights(held)[name], weight)


def test_a_continued_adapter_is_held_to_its_own_start_and_not_to_the_base(tmp_path, monkeypatch):
    """`disable_adapter` would give the base, from which the penalty would not start at zero."""

    def continued():
        torch.manual_seed(5)
        return get_peft_model(tiny_model(), LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False))

    monkeypatch.setattr("tests.huggingface.training.fixtures.tiny_model", lambda *_, **__: continued())
    for reference in ("cache", "model"):
        run, _ = trained(
            tmp_path, rows=token_rows(8), lora=None, safeguards=[holding(reference=reference)], num_train_epochs=1,
            logging_steps=1, logging_strategy="steps", per_device_train_batch_size=4,
        )  # fmt: skip
        first, second = (entry["safety/safety_tokens/value"] for entry in run.state.log_history if "loss" in entry)
        assert first == pytest.approx(0, abs=1e-9) and second > 1e-6


def test_all_safeguards_work_in_one_run(tmp_path, capsys):
    """Each as by itself: the step with both penalties is the sum of the two steps with one."""
    from tests.tiny import save_tiny

    base = str(save_tiny(tmp_path / "base", seed=9))
    direction = AlignmentDirection(strength=2.0, base=base, precision="float32")
    selection = GradientSelection(keep=0.5)
    settings = {"rows": token_rows(16), "lora": LORA, "num_train_epochs": 1, "per_device_train_batch_size": 8}
    settings |= {"train_sampling_strategy": "sequential", "logging_steps": 1, "logging_strategy": "steps"}
    runs = {}
    for name, safeguards in {
        "none": [], "tokens": [holding(5.0)], "direction": [direction], "both": [holding(5.0), direction]
    }.items():  # fmt: skip
        torch.manual_seed(0)
        runs[name], _ = trained(tmp_path / name, safeguards=[selection, *safeguards], **settings)
    after = {name: weights(run) for name, run in runs.items()}
    for name, weight in after["none"].items():
        parts = sum(after[each][name] - weight for each in ("tokens", "direction"))
        torch.testing.assert_close(after["both"][name] - weight, parts, atol=2e-6, rtol=1e-3)
    printed = capsys.readouterr().out
    assert "safety_tokens: strength 5, holds 3 tokens ('I', ' canno', ' help') at all answer positions" in printed
    logged = runs["both"].state.log_history[1]
    for name in ("gradient_selection", "safety_tokens", "alignment_direction"):
        assert any(key.startswith(f"safety/{name}/") for key in logged)


def test_the_gradient_at_the_hidden_states_is_split_into_the_two_parts(tmp_path):
    """By hand, with one row a step: the loss's part is what the plain run has there."""
    rows = token_rows(2)
    settings = {"rows": rows, "lora": None, "num_train_epochs": 1, "per_device_train_batch_size": 1}
    settings |= {"logging_steps": 1, "logging_strategy": "steps", "train_sampling_strategy": "sequential"}
    first, _ = trained(tmp_path, max_steps=1, **{key: settings[key] for key in settings if key != "num_train_epochs"})
    held, _ = trained(tmp_path, safeguards=[holding(5.0)], **settings)
    model, start = first.model.eval(), tiny_model()
    (ids,), (mask,) = _rows_of(rows, [1])
    hidden = model.model(input_ids=ids[None]).last_hidden_state[0, :-1]
    targets = torch.where(mask, ids[1:], -100)
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), targets, ignore_index=-100)
    reference = start(input_ids=ids[None]).logits[0, :-1][mask][:, IDS].detach()
    penalty = 5.0 * (model.lm_head(hidden)[mask][:, IDS] - reference).square().mean()
    of_loss, of_penalty = (torch.autograd.grad(each, hidden, retain_graph=True)[0].norm() for each in (loss, penalty))
    logged = [entry for entry in held.state.log_history if "loss" in entry][1]
    assert logged["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert logged["safety/safety_tokens/value"] == pytest.approx(penalty.item() / 5, rel=1e-3)
    assert logged["safety/safety_tokens/gradient_norm"] == pytest.approx(float(of_penalty), rel=1e-3)
    assert logged["safety/safety_tokens/gradient_ratio"] == pytest.approx(float(of_penalty / of_loss), rel=1e-3)
    assert logged["safety/safety_tokens/share"] == pytest.approx((penalty / (loss + penalty)).item(), rel=1e-3)


def test_a_resumed_run_is_held_to_the_first_start(tmp_path):
    settings = {"rows": token_rows(16), "per_device_train_batch_size": 4, "optim": "adamw_torch", "save_steps": 2}
    settings |= {"save_strategy": "steps", "train_sampling_strategy": "sequential", "lora": None}
    for reference in ("cache", "model"):
        guard, folder = [holding(5.0, reference=reference)], tmp_path / reference
        whole, _ = trained(folder / "whole", safeguards=guard, num_train_epochs=1, **settings)
        trained(folder / "cut", safeguards=guard, max_steps=2, **settings)
        resumed = make_trainer(folder / "cut", safeguards=guard, num_train_epochs=1, **settings)
        resumed.train(str(newest_complete(folder / "cut")))
        assert resumed.state.global_step == 4
        for name, weight in weights(whole).items():
            assert torch.equal(weights(resumed)[name], weight)


def test_persistent_workers_do_not_evaluate_on_the_training_set(tmp_path):
    trainer = make_trainer(
        tmp_path, rows=token_rows(8), eval_rows=token_rows(3), safeguards=[holding()], max_steps=1,
        dataloader_persistent_workers=True, dataloader_num_workers=1, eval_strategy="steps", eval_steps=1,
    )  # fmt: skip
    trainer.train()
    assert len(trainer.get_eval_dataloader().dataset) == 3


def test_rows_that_an_evaluation_would_drop_are_cached(tmp_path):
    """Ten rows are one batch of an evaluation and two that is dropped; in another order they come up in training."""
    settings = {"rows": token_rows(10), "per_device_train_batch_size": 2, "num_train_epochs": 1}
    run, _ = trained(tmp_path, safeguards=[holding()], dataloader_drop_last=True, **settings)
    assert run.state.global_step == 5 and run.args.dataloader_drop_last
