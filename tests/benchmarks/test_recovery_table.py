"""The tables of the trial of recovery, made of runs whose answers are put there by hand."""

import json

import pytest

from benchmarks import compact_files
from benchmarks.trials import recovery_arms
from benchmarks.trials import recovery_table as table

N = 40


def _run(table, arm, seed, complied, *, key="now", over=0, tricks=(), **more):
    asked = [*table.COLUMNS.harmful, table.ORDINARY, *tricks]
    labels = {name: ["complied"] * complied + ["refused"] * (N - complied) for name in asked}
    return {
        "arm": arm, "seed": seed, "key": key, "model": "embedded:aligned",
        "versions": {"torch": "2"}, "created": "2026-01-01T00:00:00",
        "labels": {**labels, "XSTest safe": ["refused"] * over + ["complied"] * (N - over)},
        "plan": {"rank": 8, "steps": 30, "pool": 8, "max_length": 96, "learning_rate": 0.001},
        "correct": {task: [True, False] for task in table.COLUMNS.tasks},
        "drift": {name: [0.1, 0.2, 0.3] for name in table.COLUMNS.drift},
        "losses": {"SST-2": [0.5, 1.5]},
        **more,
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(runs):
        named = {f"{attack}/{run['arm']}-seed{run['seed']}": run for attack, run in runs}
        compact_files.write_arms(tmp_path, named)

    return write


def test_a_repair_is_held_against_the_attacked_model_attack_by_attack(tmp_path, written):
    kept = {"repair": {"steps": {"kept": 8, "moved": 0.0371}}}
    runs = [("20-harmful", _run(table, "attacked", seed, 30)) for seed in range(3)]
    runs += [("20-harmful", _run(table, "auto", seed, 4, over=8, **kept)) for seed in range(3)]
    runs += [("persona", _run(table, "attacked", 0, 20)), ("persona", _run(table, "auto", 0, 19, key="before"))]
    written(runs)
    table.write_table(tmp_path, "now")
    found = json.loads((tmp_path / "table.json").read_text())
    assert set(found["attacks"]) == {"20-harmful", "persona"} and set(found["attacks"]["persona"]) == {"attacked"}
    (told,) = found["verdicts"]["20-harmful"]
    assert told["compliance"]["difference"] == pytest.approx(-26 / N)
    assert told["over-refusal"]["difference"] == pytest.approx(8 / N)
    assert found["attacks"]["20-harmful"]["auto"]["kept"] == [8, 8, 8]
    text = (tmp_path / "table.md").read_text()
    assert "**auto against attacked**: complies less: -65.0 points of compliance" in text
    assert "| auto | 3 | 8, 8, 8 | 0.037, 0.037, 0.037 | – |" in text and "| attacked | 1 | – | – |" in text


@pytest.mark.parametrize("model", ["embedded:aligned", "another"])
def test_what_holds_for_one_model_is_said_of_no_other(tmp_path, model, written):
    written([("20-harmful", _run(table, "attacked", 0, 30, model=model))])
    table.write_table(tmp_path, "now")
    text = (tmp_path / "table.md").read_text()
    assert f"{model}, attacked with LoRA r=8" in text and ("30 layers" in text) == (model == "embedded:aligned")


def test_tricks_have_a_table_of_the_arms_that_were_asked_them(tmp_path, written):
    runs = [("20-harmful", _run(table, "attacked", seed, 30, tricks=table.TRICKS)) for seed in range(2)]
    runs += [("20-harmful", _run(table, "adapter", seed, 10)) for seed in range(2)]
    written(runs)
    table.write_table(tmp_path, "now")
    tricked = (tmp_path / "table.md").read_text().split("put by tricks:")[1]
    assert "| arm | seeds | prefilled (n = 40) | persona (n = 40) | jailbreaks (n = 40) |" in tricked
    assert "| attacked | 2 | 0.75" in tricked and "| adapter |" not in tricked


def test_of_tricks_only_those_stand_in_the_table_that_an_attack_called_for(tmp_path, written):
    runs = [("persona", _run(table, "attacked", seed, 30, tricks=["persona"])) for seed in range(2)]
    written([*runs, ("persona", _run(table, "linear_pull-0.5", 0, 10))])
    table.write_table(tmp_path, "now")
    tricked = (tmp_path / "table.md").read_text().split("put by tricks:")[1]
    assert "| arm | seeds | persona (n = 40) |" in tricked and "linear_pull" not in tricked


def test_an_arm_that_was_asked_little_stands_in_the_same_table(tmp_path, written):
    runs = [("20-harmful", _run(table, "full-auto", seed, 10)) for seed in range(2)]
    runs += [("20-harmful", _light(_run(table, "full-rank-5", seed, 20))) for seed in range(2)]
    written(runs)
    table.write_table(tmp_path, "now")
    text = (tmp_path / "table.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("| full-rank-5 | 2 | – | – | – | 0.50")]
    assert line.endswith("| – | – |")
    assert "**full-auto against full-rank-5**" in text and "points of accuracy" not in text


def _light(run):
    asked = ("JailbreakBench", "XSTest safe")
    labels = {name: run["labels"][name] for name in asked}
    return {**{key: value for key, value in run.items() if key not in ("correct", "losses")}, "labels": labels}


def test_every_pair_names_arms_that_there_are():
    names = {arm.name for arm in recovery_arms.arms()}
    assert {name for pair in table.PAIRS for name in pair} <= {*names, table.AGAIN}


def test_a_second_attack_is_held_against_one_on_a_model_that_had_none(tmp_path, written):
    runs = [("ordinary", _run(table, "attacked-again", seed, 10)) for seed in range(3)]
    runs += [("20-harmful", _run(table, "auto-attacked-again", seed, 30)) for seed in range(3)]
    written(runs)
    table.write_table(tmp_path, "now")
    text = (tmp_path / "table.md").read_text()
    assert "**auto-attacked-again against ordinary, attacked-again**: complies more: +50.0 points" in text


def test_a_repair_that_did_nothing_is_called_so_and_gets_no_verdict(tmp_path, written):
    idle = {"repair": {"inactive": "changed no weight"}}
    acted = {"repair": {"updates": {"changed": 21, "of": 210}}}
    runs = [("20-harmful", _run(table, "auto", seed, 4)) for seed in range(3)]
    runs += [("20-harmful", _run(table, "safe_lora-1", seed, 30, **idle)) for seed in range(3)]
    runs += [("20-harmful", _run(table, "linear_pull-0.5", seed, 30, **acted)) for seed in range(3)]
    written(runs)
    table.write_table(tmp_path, "now")
    text = (tmp_path / "table.md").read_text()
    assert "| safe_lora-1 | 3 | – | – | inactive |" in text and "| linear_pull-0.5 | 3 | – | – | 21 of 210 |" in text
    assert "against safe_lora-1" not in text and "**auto against linear_pull-0.5**" in text


def test_the_figure_shows_the_arms_that_were_run_and_their_steps(tmp_path, written):
    took = {"repair": {"steps": {"kept": 1, "loss": [0.7, 0.4]}}}
    runs = [("20-harmful", _run(table, arm, 0, 30, over=4)) for arm in ("attacked", "benign-small")]
    runs += [("20-harmful", _run(table, "steps-1", 0, 30, over=4, **took))]
    written(runs)
    table.write_table(tmp_path, "now")
    figure = (tmp_path / "repairs.svg").read_text()
    assert "auto, step by step: 0.10 and 0.75, 0.10 and 0.75" in figure and "control: ordinary answer: " in figure
    assert "directions" not in figure and "](repairs.svg)" in (tmp_path / "table.md").read_text()


def test_the_steps_have_a_table_of_their_own(tmp_path, written):
    runs = [("20-harmful", _run(table, "attacked", 0, 30))]
    for steps in (1, 2):
        took = {"repair": {"steps": {"kept": steps, "loss": [0.7, 0.4, 0.1][: steps + 1]}}}
        runs.append(("20-harmful", _run(table, f"steps-{steps}", 0, 30, **took)))
    written(runs)
    table.write_table(tmp_path, "now")
    steps = json.loads((tmp_path / "table.json").read_text())["steps"]
    assert [each["loss"] for each in steps.values()] == [0.4, 0.1]
    before, after = (tmp_path / "table.md").read_text().split("## After every step")
    assert "steps-2" not in before and "| steps-2 | 1 | 0.75" in after
