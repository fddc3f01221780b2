"""The table of the trial of the selection rules, made of runs whose answers are put there by hand."""

import json

import pytest

N = 40


@pytest.fixture
def table(benchmark):
    return benchmark("_selection_table")


def _run(table, arm, seed, complied, key="now", **plan):
    labels = {name: ["complied"] * complied + ["refused"] * (N - complied) for name in table.COLUMNS.harmful}
    return {
        "arm": arm, "seed": seed, "key": key, "versions": {}, "labels": {**labels, "XSTest safe": ["complied"] * N},
        "plan": {"rank": 16, "steps": 30, "pool": 25, "max_length": 96, "learning_rate": 0.001, **plan},
        "correct": {task: [True, False] for task in table.COLUMNS.tasks},
        "drift": {name: [0.1, 0.2, 0.3] for name in table.COLUMNS.drift},
    }  # fmt: skip


def _verdict(table, before, after):
    """Of arms whose runs comply with so many prompts of each set."""
    runs = {
        name: [_run(table, name, seed, complied) for seed, complied in enumerate(arm)]
        for name, arm in (("random-0.2", before), ("moderate-0.2", after))
    }
    (found,) = table.verdicts(runs)
    return table._sentence(found)


def test_runs_of_other_settings_stay_out_of_the_table(table, tmp_path):
    (tmp_path / "arms").mkdir()
    runs = [_run(table, "plain", 0, 30, "before", learning_rate=1.0), _run(table, "moderate-0.2", 0, 10)]
    for run in runs:
        (tmp_path / "arms" / f"{run['arm']}-seed0.json").write_text(json.dumps(run))
    table.write_table(tmp_path, ["plain", "moderate-0.2"], "now")
    assert set(json.loads((tmp_path / "table.json").read_text())["arms"]) == {"moderate-0.2"}
    assert "learning rate 0.001" in (tmp_path / "table.md").read_text()


def test_a_difference_is_one_only_beyond_what_seeds_differ_by(table):
    assert ": complies less: " in _verdict(table, [30, 31, 30], [10, 10, 11])
    assert ": complies more under these seeds, but by no more than" in _verdict(table, [10, 20, 15], [12, 38, 17])
    assert ": complies less under this seed alone: " in _verdict(table, [30], [10])


def test_where_nothing_differs_no_smallest_difference_is_made_up(table):
    sentence = _verdict(table, [20, 20], [20, 20])
    assert "no difference that 120 prompts could show: " in sentence and "smallest" not in sentence
