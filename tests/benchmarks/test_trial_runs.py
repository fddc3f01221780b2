"""The runs of a trial, without any model."""

import pytest
from filelock import FileLock

from benchmarks import compact_files
from benchmarks.trials import runs, training


@pytest.fixture
def trial(tmp_path):
    plan = training.Plan(pool=8, rank=8)

    def of(key):
        return runs.Trial(
            out=tmp_path / "out", work=tmp_path / "work", plan=plan, measure=None, key=key, threads=1, keep=False
        )  # fmt: skip

    return of


def _made(trial, name="ordinary/plain-seed0"):
    return trial.known()[name]["made"]


def test_a_finished_run_is_not_made_again_unless_its_key_is_another(trial):
    for key, made in (("a", 1), ("a", 2), ("b", 3)):
        trial(key).once("ordinary/plain-seed0", lambda made=made: {"made": made})
    assert _made(trial("b")) == 3
    assert trial("b").finished("ordinary/plain-seed0") and not trial("a").finished("ordinary/plain-seed0")


def test_a_finished_run_of_the_key_stays_as_it_is(trial):
    for made in (1, 2):
        trial("a").once("ordinary/plain-seed0", lambda made=made: {"made": made})
    assert _made(trial("a")) == 1


def test_a_finished_run_of_another_arm_under_its_name_is_made_again(trial):
    for number, strength in enumerate((1.0, 1.0, 3.0)):
        about = {"arm": "plain", "safeguards": ({"strength": strength},)}
        run = runs.Run(name="plain-seed0", about=about, make=None)
        trial("a").once(run.name, lambda about=about, number=number: {**about, "made": number}, run.about)
    assert _made(trial("a"), "plain-seed0") == 2


def test_a_run_that_fails_is_named_and_the_others_are_made(trial, monkeypatch):
    of = trial("a")
    monkeypatch.setattr(runs.Measure, "references", lambda self: {})
    object.__setattr__(of, "measure", runs.Measure.__new__(runs.Measure))
    monkeypatch.setattr(runs.Measure, "__call__", lambda self, source, name: {"measured": source})

    def make(folder):
        folder.mkdir(parents=True)
        return ("broken", {"made": 1 / 0}) if folder.name == "bad" else ("good", {"made": 1})

    with pytest.raises(RuntimeError, match=r"1 runs failed: bad\."):
        of.complete([runs.Run(name=name, about={"arm": name}, make=make) for name in ("bad", "good")])
    assert _made(of, "good") == 1 and not of.finished("bad")


def test_a_run_that_another_call_makes_is_left_to_it(trial, capsys):
    lock = trial("a").work / "plain-seed0.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        trial("a").once("plain-seed0", lambda: pytest.fail("made twice"))
    assert not trial("a").finished("plain-seed0") and "by another call" in capsys.readouterr().out


def test_a_run_that_fails_leaves_nothing_and_can_be_made_again(trial):
    with pytest.raises(ZeroDivisionError):
        trial("a").once("plain-seed0", lambda: {"made": 1 / 0})
    assert not trial("a").finished("plain-seed0")
    trial("a").once("plain-seed0", lambda: {"made": 4})
    assert _made(trial("a"), "plain-seed0") == 4


def test_gathered_runs_move_into_one_file_and_are_not_made_again(trial):
    of = trial("a")
    for number, name in enumerate(("ordinary/plain-seed0", "aligned")):
        of.once(name, lambda number=number: {"made": number})
    of.gather()
    assert {name: run["made"] for name, run in compact_files.read_arms(of.out).items()} == {
        "ordinary/plain-seed0": 0, "aligned": 1,
    }  # fmt: skip
    assert not [*of.work.rglob("*.json")]
    of.once("aligned", lambda: pytest.fail("made twice"))
    of.once("base", lambda: {"made": 2})
    assert of.known().keys() == {"ordinary/plain-seed0", "aligned", "base"}


def test_a_run_that_was_made_again_takes_the_place_of_the_gathered_one(trial):
    for key, made in (("a", 1), ("b", 2)):
        trial(key).once("ordinary/plain-seed0", lambda made=made: {"made": made})
        trial(key).gather()
    assert _made(trial("b")) == 2


def test_gathering_nothing_writes_nothing(trial):
    trial("a").gather()
    assert not trial("a").out.exists()
