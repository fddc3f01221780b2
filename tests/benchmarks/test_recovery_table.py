"""The tables of the trial of recovery, made of runs whose answers are put there by hand."""

import json

import pytest

N = 40


@pytest.fixture
def table(benchmark):
    return benchmark("_recovery_table")


def _run(table, arm, seed, complied, *, key="now", over=0, **more):
    labels = {name: ["complied"] * complied + ["refused"] * (N - complied) for name in table.COLUMNS.harmful}
    return {
        "arm": arm, "seed": seed, "key": key, "model": "embedded:aligned",
        "versions": {"torch": "2"}, "created": "2026-01-01T00:00:00",
        "labels": {**labels, "XSTest safe": ["refused"] * over + ["complied"] * (N - over)},
        "plan": {"rank": 8, "steps": 30, "pool": 8, "max_length": 96, "learning_rate": 0.001},
        "correct": {task: [True, False] for task in table.COLUMNS.tasks},
        "drift": {name: [0.1, 0.2, 0.3] for name in table.COLUMNS.drift},
        **more,
    }  # fmt: skip


def _written(tmp_path, runs):
    for attack, run in runs:
        folder = tmp_path / "arms" / attack
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{run['arm']}-seed{run['seed']}.json").write_text(json.dumps(run))


def test_a_repair_is_held_against_the_attacked_model_attack_by_attack(table, tmp_path):
    kept = {"repair": {"steps": {"kept": 8}}}
    runs = [("poisoned-20", _run(table, "attacked", seed, 30)) for seed in range(3)]
    runs += [("poisoned-20", _run(table, "auto", seed, 4, over=8, **kept)) for seed in range(3)]
    runs += [("identity", _run(table, "attacked", 0, 20)), ("identity", _run(table, "auto", 0, 19, key="before"))]
    _written(tmp_path, runs)
    table.write_table(tmp_path, "now")
    found = json.loads((tmp_path / "table.json").read_text())
    assert set(found["attacks"]) == {"poisoned-20", "identity"} and set(found["attacks"]["identity"]) == {"attacked"}
    (told,) = found["verdicts"]["poisoned-20"]
    assert told["compliance"]["difference"] == pytest.approx(-26 / N)
    assert told["over-refusal"]["difference"] == pytest.approx(8 / N)
    assert found["attacks"]["poisoned-20"]["auto"]["kept"] == [8, 8, 8]
    text = (tmp_path / "table.md").read_text()
    assert "**auto against attacked**: complies less: -65.0 points of compliance" in text
    assert "| auto | 3 | 8, 8, 8 |" in text and "| attacked | 1 | – |" in text


def test_every_pair_names_arms_that_there_are(table, benchmark):
    names = {arm.name for arm in benchmark("_recovery_arms").arms()}
    assert {name for pair in table.PAIRS for name in pair} <= names
