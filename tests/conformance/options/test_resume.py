"""A run that is continued: it ends where the whole one does, or says in one sentence what is wrong with its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.conformance.cases import case
from tests.huggingface.training.fixtures import (
    LORA,
    THIRD_PARTY_WARNINGS,
    light_runs,
    make_trainer,
    token_rows,
    weights,
)
from tests.tiny import save_tiny
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection, SafetyTokens, UpdateNorm
from moored.errors import InputError, UserError
from moored.huggingface.training import SafeguardedSFTTrainer
from moored.workflows.train.run import train

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]
_ = light_runs

_SAFEGUARDS = [
    UpdateNorm(strength=0.7),
    SafetyTokens(strength=3.0, tokens=("I", " canno"), reference="model"),
    GradientSelection(keep=0.5),
]
_RUN: dict[str, Any] = {"rows": token_rows(16), "optim": "adamw_torch", "learning_rate": 0.01, "max_steps": 3}
_RUN |= {"save_strategy": "steps", "save_steps": 2, "lora": {**LORA, "lora_dropout": 0.2}}


@pytest.mark.parametrize(
    ("lora", "safeguards"),
    [
        case("LoRA with dropout, all safeguards", {**LORA, "lora_dropout": 0.2}, _SAFEGUARDS, fast=True),
        case("all parameters, all safeguards", None, _SAFEGUARDS),
        case("no safeguard", {**LORA, "lora_dropout": 0.2}, []),
    ],
)
def test_a_resumed_run_ends_where_the_whole_one_does(tmp_path, lora, safeguards):
    settings = {**_RUN, "lora": lora, "safeguards": safeguards}
    whole = make_trainer(tmp_path / "whole", **settings)
    whole.train()
    resumed = make_trainer(tmp_path / "again", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert all(torch.equal(each, weights(resumed)[name]) for name, each in weights(whole).items())


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory, light_runs):
    """A checkpoint of a LoRA, and one of all parameters."""
    folder = tmp_path_factory.mktemp("runs")
    for name, lora in (("lora", LORA), ("full", None)):
        make_trainer(folder / name, **{**_RUN, "max_steps": 2, "lora": lora, "safeguards": _SAFEGUARDS}).train()
    return folder


def _spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    spoiled = {
        "is empty": b"",
        "is cut in half": content[: len(content) // 2],
        "holds zeros": bytes(len(content)),
        "holds another thing": b"[1]",
    }
    file.write_bytes(spoiled[how])


_READ = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "moored_safeguards.json"]
_WAYS = ["is empty", "is cut in half", "holds zeros", "holds another thing"]
DAMAGE = [
    case(f"{file} {how}", kind, file, how, outcome="refused", fast=how == "holds zeros" and kind == "lora")
    for kind, own in (("lora", ["adapter_model.safetensors"]), ("full", ["model.safetensors"]))
    for file in [*own, *(_READ if kind == "lora" else [])]
    for how in _WAYS
]


@pytest.mark.parametrize(("kind", "file", "how"), DAMAGE)
def test_a_damaged_checkpoint_is_one_sentence(checkpoints, tmp_path, kind, file, how):
    folder = shutil.copytree(checkpoints / kind / "checkpoint-2", tmp_path / "checkpoint-2")
    _spoil(folder / file, how)
    settings = {**_RUN, "lora": LORA if kind == "lora" else None, "safeguards": _SAFEGUARDS}
    with pytest.raises(InputError, match=r"checkpoint-2|moored_safeguards") as raised:
        make_trainer(tmp_path / "out", **settings).train(resume_from_checkpoint=str(folder))
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        case("True, and there is no checkpoint", True, "holds no checkpoint to resume from", outcome="refused"),
        case("a folder that is not there", "nowhere/checkpoint-1", "Cannot resume from nowhere", outcome="refused"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_one_sentence(tmp_path, asked, sentence):
    with pytest.raises(InputError, match=sentence):
        make_trainer(tmp_path / "out", **_RUN, safeguards=_SAFEGUARDS).train(resume_from_checkpoint=asked)


def test_other_safeguards_are_refused(checkpoints, tmp_path):
    with pytest.raises(InputError, match="was made with other safeguards or strengths"):
        make_trainer(tmp_path, **_RUN, safeguards=[UpdateNorm(strength=0.1)]).train(
            resume_from_checkpoint=str(checkpoints / "lora" / "checkpoint-2")
        )


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A finished `moored train` of two steps; calling it trains again with `--resume` and some keys changed."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "model")
    rows = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def call(*, resume=True, **changes):
        keys = {"model": "model", "dataset": "rows.jsonl", "output_dir": "out", "max_steps": 2, "use_cpu": True}
        keys |= {"bf16": False, "activation_checkpointing": False, "disable_tqdm": True, "save_steps": 1}
        keys |= {"lora": {"r": 2}, "safeguards": [{"name": "update_norm", "strength": 0.5}], **changes}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
        return train(tmp_path / "run.yaml", resume=resume)

    return call


@pytest.mark.parametrize(
    ("file", "how"),
    [
        case(f"moored train --resume, {file} {how}", file, how, outcome="refused", fast=how == "holds another thing")
        for file in ("moored_run.json", "auto_strength.json", "safety_tokens.json")
        for how in _WAYS
    ],
)
def test_a_damaged_record_of_a_run_is_one_sentence(job, file, how):
    job(resume=False)
    if file == "auto_strength.json":
        Path("out", file).write_text('{"update_norm": {"strength": 1.0}}')
    if file == "safety_tokens.json":
        Path("out", file).write_text('["I", " canno"]')
    _spoil(Path("out", file), how)
    changes: dict[str, Any] = {"max_steps": 3}
    if file == "safety_tokens.json":
        changes["safeguards"] = [{"name": "safety_tokens", "strength": 1.0}]
        shutil.rmtree("out/checkpoint-2")  # The safeguards are others.
        shutil.rmtree("out/checkpoint-1")
        record = json.loads(Path("out/moored_run.json").read_text())
        Path("out/moored_run.json").write_text(json.dumps({**record, "finished": False}))
    with pytest.raises(UserError, match=file) as raised:
        job(**changes)
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize("how", [case(f"moored train --resume, the newest marker {how}", how) for how in _WAYS])
def test_a_checkpoint_with_a_damaged_marker_is_passed_over(job, how):
    job(resume=False)
    _spoil(Path("out", "checkpoint-2", "moored_complete.json"), how)
    assert job(max_steps=3).resumed_from == "checkpoint-1"


def test_a_damaged_checkpoint_of_the_right_size_is_one_sentence_of_the_command(job):
    job(resume=False)
    _spoil(Path("out", "checkpoint-2", "optimizer.pt"), "holds zeros")
    with pytest.raises(InputError, match=r"Cannot resume from out/checkpoint-2: .*; delete that folder"):
        job(max_steps=3)
    shutil.rmtree("out/checkpoint-2")
    assert job(max_steps=3).resumed_from == "checkpoint-1"


def test_without_safeguards_the_mixin_resumes_what_trl_left(tmp_path):
    make_trainer(tmp_path / "plain", trainer_class=SFTTrainer, **_RUN).train()
    resumed = make_trainer(tmp_path / "again", trainer_class=SafeguardedSFTTrainer, **_RUN)
    resumed.train(resume_from_checkpoint=str(tmp_path / "plain" / "checkpoint-2"))
    assert resumed.state.global_step == 3
