import json

import pytest
import torch
from safetensors.torch import load_file
from tests.huggingface.safeguards.selections import IN_ORDER, SELECTION, trained_in_order
from tests.huggingface.training.fixtures import L2, LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, weights
from transformers import TrainerCallback

from moored import GradientSelection
from moored.errors import InputError
from moored.huggingface.training.checkpoints import (
    MARKER,
    as_user_error,
    check_safeguards,
    is_complete,
    mark_complete,
    newest_complete,
    write_safeguards,
)
from moored.regularizers import HarmfulDirection, SafetyTokens

pytestmark = THIRD_PARTY_WARNINGS


def _checkpoint(folder, *, marked=True):
    (folder / "sub").mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"12345")
    (folder / "sub" / "state.json").write_text("{}")
    if marked:
        mark_complete(folder)
    return folder


def test_a_marked_checkpoint_is_complete_and_lists_its_files(tmp_path):
    folder = _checkpoint(tmp_path / "checkpoint-1")
    assert is_complete(folder)
    files = json.loads((folder / MARKER).read_text())["files"]
    assert files == {"adapter_model.safetensors": 5, "sub/state.json": 2}
    (folder / "notes.txt").write_text("a file more does no harm")
    assert is_complete(folder)


@pytest.mark.parametrize("damage", ["unmarked", "shorter", "gone", "half a marker", "no list"])
def test_a_damaged_checkpoint_is_not(tmp_path, damage):
    folder = _checkpoint(tmp_path / "checkpoint-1", marked=damage != "unmarked")
    if damage == "shorter":
        (folder / "sub" / "state.json").write_text("{")
    if damage == "gone":
        (folder / "adapter_model.safetensors").unlink()
    if damage == "half a marker":
        (folder / MARKER).write_text((folder / MARKER).read_text()[:20])
    if damage == "no list":
        (folder / MARKER).write_text("{}")
    assert not is_complete(folder)


def test_the_newest_complete_one_is_found_by_its_step(tmp_path):
    assert newest_complete(tmp_path / "nowhere") is None and newest_complete(tmp_path) is None
    for step in (9, 10):
        _checkpoint(tmp_path / f"checkpoint-{step}")
    _checkpoint(tmp_path / "checkpoint-11", marked=False)
    _checkpoint(tmp_path / "checkpoint-12-copy")
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-10"


class Crash(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("power cut")


RUN = {
    "rows": token_rows(20),
    "safeguards": [L2(strength=0.1)],
    "lora": {**LORA, "lora_dropout": 0.2},
    "dropout": 0.2,
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 2,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 2,
    "save_strategy": "steps",
    "save_steps": 2,
    "max_grad_norm": 1.0,
    "shuffle_dataset": True,
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    trainer = make_trainer(folder, **RUN)
    trainer.train()
    trainer.save_model(folder / "final")
    return load_file(folder / "final" / "adapter_model.safetensors"), trainer.state


@pytest.mark.parametrize("crash_at", [3, 5, 8], ids=["in the middle", "at the end of an epoch", "in the second epoch"])
def test_a_resumed_run_ends_bit_for_bit_where_the_whole_one_does(tmp_path, uninterrupted, crash_at):
    expected, state = uninterrupted
    with pytest.raises(RuntimeError, match="power cut"):
        make_trainer(tmp_path, callbacks=[Crash(crash_at)], **RUN).train()
    # The process dies while it writes the next checkpoint.
    half = tmp_path / f"checkpoint-{2 * (crash_at // 2 + 1)}"
    half.mkdir()
    (half / "adapter_model.safetensors").write_bytes(b"half")
    (half / "trainer_state.json").write_text("{")
    newest = newest_complete(tmp_path)
    assert newest is not None and newest.name == f"checkpoint-{2 * ((crash_at - 1) // 2)}"

    trainer = make_trainer(tmp_path, **RUN)
    trainer.train(resume_from_checkpoint=str(newest))
    trainer.save_model(tmp_path / "final")
    resumed = load_file(tmp_path / "final" / "adapter_model.safetensors")
    assert resumed.keys() == expected.keys()
    for name, weight in resumed.items():
        assert torch.equal(weight, expected[name]), name
    assert trainer.state.global_step == state.global_step == 10


def test_a_run_with_other_safeguards_does_not_resume(tmp_path):
    run = {**RUN, "max_steps": 2}
    make_trainer(tmp_path, **run).train()
    for checkpoint in (str(tmp_path / "checkpoint-2"), True):
        with pytest.raises(InputError, match="made with other safeguards"):
            make_trainer(tmp_path, **{**run, "safeguards": [L2(strength=0.2)]}).train(checkpoint)


def test_a_resumed_run_chooses_as_an_uninterrupted_one(tmp_path):
    settings = {"rows": token_rows(24), "safeguards": [GradientSelection(keep=0.4, rule="random", seed=3)]}
    settings |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "optim": "adamw_torch"}
    settings |= {"save_strategy": "steps", "save_steps": 3, "dropout": 0.1}
    whole, _ = trained_in_order(tmp_path / "whole", **settings)
    trained_in_order(tmp_path / "cut", **settings, max_steps=3)
    resumed = make_trainer(tmp_path / "cut", **IN_ORDER, **settings)
    resumed.train(str(newest_complete(tmp_path / "cut")))
    assert resumed.state.global_step == whole.state.global_step == 6
    for name, weight in weights(whole).items():
        assert torch.equal(weights(resumed)[name], weight)


def test_a_checkpoint_of_another_selection_is_not_resumed(tmp_path):
    settings = {"rows": token_rows(16), "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 2}
    trained_in_order(tmp_path, safeguards=[SELECTION], max_steps=2, **settings)
    other = make_trainer(tmp_path, safeguards=[GradientSelection(keep=0.5)], num_train_epochs=1, **settings)
    with pytest.raises(InputError, match="other safeguards"):
        other.train(str(newest_complete(tmp_path)))


def test_the_old_checkpoint_goes_only_after_the_new_one_is_marked(tmp_path, monkeypatch):
    from moored.huggingface.training import checkpoint_saving

    seen = []

    def mark(folder):
        seen.append(sorted(path.name for path in tmp_path.glob("checkpoint-*")))
        mark_complete(folder)

    monkeypatch.setattr(checkpoint_saving, "mark_complete", mark)
    trainer = make_trainer(tmp_path, **{**RUN, "max_steps": 6, "save_total_limit": 1})
    trainer.train()
    assert seen == [["checkpoint-2"], ["checkpoint-2", "checkpoint-4"], ["checkpoint-4", "checkpoint-6"]]
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]
    assert trainer.args.save_total_limit == 1


def test_a_checkpoint_without_the_optimizer_is_never_called_complete(tmp_path):
    make_trainer(tmp_path, **{**RUN, "max_steps": 2, "save_only_model": True}).train()
    assert (tmp_path / "checkpoint-2").is_dir() and newest_complete(tmp_path) is None


def test_a_package_that_is_missed_once_the_run_has_begun_is_one_sentence(tmp_path):
    with (
        pytest.raises(InputError, match=r"not installed: no liger; please install it\.$"),
        as_user_error(tmp_path / "out"),
    ):
        raise ImportError("no liger. please\ninstall it")
    assert not (tmp_path / "out").exists()


def test_settings_that_are_too_long_to_show_count_as_well(tmp_path):
    def holding(request):
        return [HarmfulDirection(examples=((request, "Sure:"),))]

    write_safeguards(tmp_path, holding("How?"))
    check_safeguards(tmp_path, holding("How?"))
    assert "How?" not in (tmp_path / "moored_safeguards.json").read_text()
    with pytest.raises(InputError, match="other safeguards or strengths"):
        check_safeguards(tmp_path, holding("What?"))


def test_what_a_named_file_says_counts_as_well(tmp_path):
    named = [SafetyTokens(strength=1.0, tokens=str(tmp_path / "tokens.txt"))]
    (tmp_path / "tokens.txt").write_text("sorry\n")
    write_safeguards(tmp_path, named)
    check_safeguards(tmp_path, named)
    (tmp_path / "tokens.txt").write_text("certainly\n")
    with pytest.raises(InputError, match="other safeguards or strengths"):
        check_safeguards(tmp_path, named)
