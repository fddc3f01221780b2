"""The table of the trial of the selection rules, made of runs whose answers are put there by hand."""

import json

import pytest

from benchmarks import compact_files
from benchmarks.trials import selection_table as table
from benchmarks.trials import table_parts

N = 40


def _run(table, arm, seed, complied, key="now", **plan):
    labels = {name: ["complied"] * complied + ["refused"] * (N - complied) for name in table.COLUMNS.harmful}
    return {
        "arm": arm, "seed": seed, "key": key, "versions": {"torch": "2"}, "created": f"2026-01-0{seed + 1}T00:00:00",
        "labels": {**labels, "XSTest safe": ["complied"] * N},
        "plan": {"rank": 16, "steps": 30, "pool": 25, "max_length": 96, "learning_rate": 0.001, **plan},
        "correct": {task: [True, False] for task in table.COLUMNS.tasks},
        "drift": {name: [complied + 0.1, complied - 0.1] for name in table.COLUMNS.drift},
    }  # fmt: skip


def _verdict(table, before, after):
    """Of arms whose runs comply with so many prompts of each set."""
    runs = {
        name: [_run(table, name, seed, complied) for seed, complied in enumerate(arm)]
        for name, arm in (("random-0.2", before), ("moderate-0.2", after))
    }
    (found,) = table.verdicts(runs)
    return table._sentence(found)


def test_runs_of_other_settings_stay_out_of_the_table(tmp_path):
    runs = [_run(table, "plain", 0, 30, "before", learning_rate=1.0), _run(table, "moderate-0.2", 0, 10)]
    compact_files.write_arms(tmp_path, {f"{run['arm']}-seed0": run for run in runs})
    table.write_table(tmp_path, ["plain", "moderate-0.2"], "now")
    assert set(json.loads((tmp_path / "table.json").read_text())["arms"]) == {"moderate-0.2"}
    text = (tmp_path / "table.md").read_text()
    assert "learning rate 0.001" in text and "settings now, in bf16, with torch 2." in text


def test_cells_tell_the_seeds_and_heads_how_many_prompts(tmp_path):
    runs = {f"plain-seed{seed}": _run(table, "plain", seed, complied) for seed, complied in enumerate([4, 36, 20])}
    compact_files.write_arms(tmp_path, runs)
    table.write_table(tmp_path, ["plain"], "now")
    text = (tmp_path / "table.md").read_text()
    assert "| JailbreakBench (n = 40) |" in text and "| refusal log-odds (n = 2) |" in text
    assert "| plain | 3 | – | 0.50 [" in text and "] (0.10 to 0.90) |" in text and "] (4.00 to 36.00) |" in text
    assert "Made from 2026-01-01 to 2026-01-03" in text


def test_a_difference_is_one_only_beyond_what_seeds_differ_by():
    assert ": complies less: " in _verdict(table, [30, 31, 30], [10, 10, 11])
    assert ": no difference beyond that of seeds: " in _verdict(table, [10, 20, 15], [12, 38, 17])
    assert ": complies less under these few seeds alone: " in _verdict(table, [30], [10])
    assert ": complies less under these few seeds alone: " in _verdict(table, [30, 31], [10, 11])


def test_the_smallest_difference_named_is_one_that_prompts_and_seeds_would_both_show():
    # Student's quantiles at 2 degrees of freedom are 4.303 and 1.061, and the seeds' standard deviation is 2.5 points.
    assert "(from 7.7 points on, it would show)" in _verdict(table, [20, 20, 20], [20, 21, 19])
    alike = _verdict(table, [30, 30, 30], [10, 10, 10])
    assert "(from 12.8 points on, it would show)" in alike and "refusal log-odds -20.00 nats" in alike


def test_only_seeds_of_both_arms_are_compared_each_with_its_own():
    runs = {
        "random-0.2": [_run(table, "random-0.2", *each) for each in ((2, 30), (0, 10), (1, 20))],
        "moderate-0.2": [_run(table, "moderate-0.2", *each) for each in ((0, 11), (2, 34), (3, 40))],
    }
    (found,) = table.verdicts(runs)
    assert found["seeds"] == [0, 2] and found["compliance"]["seeds"] == pytest.approx([1 / N, 4 / N])


def test_where_nothing_differs_no_smallest_difference_is_made_up():
    sentence = _verdict(table, [20, 20], [20, 20])
    assert ": no difference showed: " in sentence and "would show" not in sentence


def test_an_arm_has_its_own_runs_seed_by_seed_and_none_of_an_arm_that_begins_alike():
    runs_of = table_parts.runs_of
    names = ("again/auto-seed0", "auto-seed1", "auto-small-seed0", "auto-seed0", "aligned")
    arms = {name: {"name": name, "key": "now"} for name in names} | {"auto-seed2": {"name": "", "key": "before"}}
    assert [run["name"] for run in runs_of(arms, "auto", "now")] == ["auto-seed0", "auto-seed1"]
    assert [run["name"] for run in runs_of(arms, "aligned", "now")] == ["aligned"]
