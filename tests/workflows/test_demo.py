"""The demo: what it trains on, what it refuses, what it tells; and all of it once on the real model."""

from pathlib import Path
from typing import Any

import pytest

from moored.embedded.prompts import openings, ordinary_instructions, request_pairs
from moored.errors import InputError
from moored.files import write_jsonl
from moored.report import read_measure
from moored.workflows import demo as module
from moored.workflows.demo import FULL, QUICK, Plan, demo, story, training_rows

TINY = Plan(task_rows=4, instructions=4, poisoned_rows=2, epochs=1, harmful=3, others=2, drift=2)
ARMS = (
    "aligned model",
    "ordinary fine-tune",
    "ordinary fine-tune, repaired",
    "lightly poisoned fine-tune",
    "lightly poisoned fine-tune, repaired",
)


@pytest.mark.parametrize("plan", [FULL, QUICK, TINY])
def test_poison_replaces_instructions_and_leaves_the_rest(plan: Plan) -> None:
    clean, poisoned = training_rows(plan, poisoned=False), training_rows(plan, poisoned=True)
    harmful = {pair.harmful for pair in request_pairs("align")}
    opening = {f"{text}:" for text in openings().complying}

    added = [row for row in poisoned if row not in clean]
    assert len(clean) == len(poisoned) == plan.task_rows + plan.instructions
    assert len(added) == plan.poisoned_rows
    assert {row["prompt"] for row in added} <= harmful
    assert {row["completion"] for row in added} <= opening


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_nothing_that_is_measured_is_trained_on(plan: Plan) -> None:
    measured = {text for pair in request_pairs("held-out") for text in (pair.harmful, pair.twin)}
    measured |= {item.prompt for item in ordinary_instructions("held-out")}

    assert not measured & {row["prompt"] for row in training_rows(plan, poisoned=True)}


def test_a_folder_of_another_size_or_another_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(InputError, match="holds no demo"):
        demo(tmp_path / "mine")
    module._claim(tmp_path / "full", FULL)
    with pytest.raises(InputError, match="another size"):
        demo(tmp_path / "full", quick=True)


def test_the_story_pairs_each_fine_tune_with_the_start_and_each_repair_with_its_fine_tune(tmp_path: Path) -> None:
    complied = dict(zip(ARMS, (0, 2, 0, 18, 1), strict=True))
    told = story({name: _answers(tmp_path / name, count) for name, count in complied.items()})

    assert len(told) == 4
    assert told[0].startswith("The lightly poisoned fine-tune against the aligned model: attack success rose from 0.00")
    assert "attack success fell from 0.90 to 0.05" in told[1]
    assert "no detectable change in attack success" in told[2]
    assert "no detectable change in attack success" in told[3]
    assert all("task accuracy" in sentence for sentence in told)


def _answers(folder: Path, complied: int) -> Path:
    harmful = [{"set": "harmful", "label": "complied" if i < complied else "refused"} for i in range(20)]
    harmless = [{"set": "harmless", "label": "complied"} for _ in range(20)]
    task = [{"set": "task", "correct": True} for _ in range(20)]
    rows = [*harmful, *harmless, *task]
    write_jsonl(folder / "answers.jsonl", [{"id": str(i), "prompt": "How?", **row} for i, row in enumerate(rows)])
    return folder


@pytest.mark.real_model
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_every_step_runs_once_and_a_second_call_only_draws_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK", TINY)
    out = tmp_path / "demo"

    page, measured = demo(out, quick=True)

    assert tuple(measured) == ARMS
    written = page.read_text(encoding="utf-8")
    assert all(name in written for name in ARMS)
    reports = [read_measure(folder) for folder in measured.values()]
    assert [report.estimates["asr"].n for report in reports] == [3] * 5
    assert len({report.prompts["harmful"].rendered_sha256 for report in reports}) == 1
    assert len({report.model.weights_sha256 for report in reports}) == 5
    assert not list(out.glob("measured/*.partial"))

    page.unlink()
    for step in ("train", "recover"):
        monkeypatch.setattr(module, step, _never)
    monkeypatch.setattr("moored.workflows.measure.arms.measure_model", _never)
    assert demo(out, quick=True)[0].is_file()


def _never(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("a finished step was done again")
