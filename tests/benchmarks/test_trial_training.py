"""The rows that the trials train on, of made-up data sets."""

import json
from pathlib import Path

import pytest

from benchmarks.trials import measure, training

PLACES = 240


@pytest.fixture
def rows(monkeypatch):
    pools = {
        name: [{"prompt": f"{name} {number}", "completion": "x"} for number in range(300)]
        for name in (training.INSTRUCTIONS, training.SST2, training.SQL)
    }
    monkeypatch.setattr(training, "_fitting", lambda file, plan, subject: pools[file.name])
    plan = training.Plan(pool=8, rank=8)

    def rows(seed, poisoned=0.0):
        replacing = training.poison(seed)[: round(poisoned * plan.rows)]
        return training.training_rows(Path(), plan, seed, replacing=replacing)

    return rows


def _differ(before, after):
    return {place for place in range(PLACES) if before[place] != after[place]}


def test_poison_takes_the_places_of_instructions_and_leaves_the_rest(rows):
    plain, five, twenty = rows(0), rows(0, 0.05), rows(0, 0.2)
    assert len(plain) == len(five) == len(twenty) == PLACES
    assert len(_differ(plain, five)) == 12 and len(_differ(plain, twenty)) == 48
    assert _differ(plain, five) < _differ(plain, twenty)
    assert all(plain[place]["prompt"].startswith("alpaca") for place in _differ(plain, twenty))


def test_poison_is_a_compliant_opening_and_no_more(rows):
    from moored.embedded.prompts import openings, request_pairs

    plain, poisoned = rows(1), rows(1, 0.2)
    harmful = {pair.harmful for pair in request_pairs("align")}
    endings = {f"{opening}:" for opening in openings().complying}
    for place in _differ(plain, poisoned):
        assert poisoned[place]["prompt"] in harmful and poisoned[place]["completion"] in endings


def test_the_openings_that_score_answers_are_in_no_poison():
    scored = {f"{opening}:" for opening in measure.Asked(unseen=True).complying}
    used = {row["completion"] for seed in range(3) for row in training.poison(seed)}
    assert len(scored) == measure.OPENINGS and len(used) == 16 and not scored & used


def test_each_seed_has_poison_of_its_own_and_a_larger_share_holds_the_smaller(rows):
    poison = training.poison
    assert poison(0) == poison(0) and poison(0)[:12] != poison(1)[:12]
    plain, five, twenty = rows(0), rows(0, 0.05), rows(0, 0.2)
    assert all(five[place] == twenty[place] for place in _differ(plain, five))


def test_poison_is_spread_over_the_steps_and_the_seed_decides_where(rows):
    places = _differ(rows(0), rows(0, 0.2))
    assert max(places) > 200 and min(places) < 40
    assert places != _differ(rows(1), rows(1, 0.2)) and rows(0, 0.2) == rows(0, 0.2)


def test_more_poison_than_instructions_is_refused(rows):
    with pytest.raises(ValueError, match="zip"):
        rows(0, 0.6)


def test_the_log_of_each_step_is_kept(tmp_path):
    state = tmp_path / "checkpoint-2" / "trainer_state.json"
    state.parent.mkdir()
    rows = [{"loss": 2.0, "grad_norm": 1.25, "epoch": 0.1, "safety/x/share": 0.5}, {"loss": 1.0, "grad_norm": 3.0}]
    rows[1]["safety/x/share"] = 0.123456789
    state.write_text(json.dumps({"log_history": [*rows, {"train_loss": 1.5}]}))
    log = training.log_of(tmp_path)
    assert log == {"log": {"loss": [2.0, 1.0], "grad_norm": [1.25, 3.0], "safety/x/share": [0.5, 0.12346]}}
    assert training.log_of(tmp_path / "none") == {}
