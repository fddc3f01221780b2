"""An interrupted measurement is resumed: no answer is asked for twice, and none is another than it would have been."""

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console
from tests.workflows.files import digests, write_rows

from moored.files import read_jsonl
from moored.workflows.measure import local_model
from moored.workflows.measure.kept_answers import KeptAnswers, partial_folder
from moored.workflows.measure.run import measure

SETTINGS = {"max_new_tokens": 5, "batch_size": 1}


@pytest.fixture
def asked(monkeypatch):
    """The number of prompts of every call of `generate`; `stop_at` interrupts a call."""
    generate, calls, stop_at = local_model.generate, [], []

    def counted(model, tokenizer, rendered, **settings):
        if len(calls) in stop_at:
            raise KeyboardInterrupt
        calls.append(len(rendered))
        return generate(model, tokenizer, rendered, **settings)

    monkeypatch.setattr(local_model, "generate", counted)
    return calls, stop_at


def test_a_resumed_measurement_equals_an_uninterrupted_one(tmp_path, files, asked):
    base, adapter, sets = files
    calls, stop_at = asked
    whole = measure(base, adapter=adapter, out=tmp_path / "whole", **SETTINGS, **sets)
    portions = list(calls)
    for stop in (len(portions) // 4, 3 * len(portions) // 4):
        out = tmp_path / f"stopped-{stop}"
        calls.clear()
        stop_at[:] = [stop]
        with pytest.raises(KeyboardInterrupt):
            measure(base, adapter=adapter, out=out, **SETTINGS, **sets)
        assert not out.exists()
        stop_at.clear()
        resumed = measure(base, adapter=adapter, out=out, **SETTINGS, **sets)
        assert calls == portions
        assert replace(resumed, created="", seconds=None, settings={}) == replace(
            whole, created="", seconds=None, settings={}
        )
        assert not partial_folder(out).exists()


def _interrupted(base, out, asked, **settings):
    calls, stop_at = asked
    stop_at[:] = [1]
    with pytest.raises(KeyboardInterrupt):
        measure(base, out=out, **settings)
    calls.clear()
    stop_at.clear()


@pytest.mark.parametrize("change", ["max_new_tokens", "batch_size", "prompts", "weights"])
def test_answers_that_would_be_others_are_asked_again(tmp_path, files, asked, change):
    base, adapter, sets = files
    out, calls = tmp_path / "out", asked[0]
    _interrupted(base, out, asked, **SETTINGS, **sets)
    changes = {
        "max_new_tokens": {"max_new_tokens": 4},
        "batch_size": {"batch_size": 2},
        "prompts": {"task": "none"},
        "weights": {"adapter": adapter, "against": str(adapter)},
    }[change]
    console = Console(file=StringIO(), width=300)
    report = measure(base, out=out, console=console, **{**SETTINGS, **sets, **changes})
    asks = len(report.answers) * (1 if report.against is None else 2)
    assert sum(calls) == asks
    assert "starting over." in console.file.getvalue()


def test_another_judge_reads_the_same_answers(tmp_path, files, asked, monkeypatch):
    from moored.embedded.refusal_judge import RefusalJudge
    from moored.measurement import JUDGES

    base, _, sets = files
    _interrupted(base, tmp_path / "out", asked, **SETTINGS, **sets)
    monkeypatch.setitem(JUDGES, "other", RefusalJudge)
    console = Console(file=StringIO(), width=300)
    report = measure(base, out=tmp_path / "out", judge="other", console=console, **SETTINGS, **sets)
    assert sum(asked[0]) == len(report.answers) - 8
    assert "holds 8 answers of an interrupted run; resuming." in console.file.getvalue()


def test_a_torn_line_is_lost_and_nothing_else(tmp_path):
    file = tmp_path / "answers.jsonl"
    kept = KeptAnswers(file, {"weights": "a"})
    kept.add({3: "three\n", 1: "one"})
    kept.add({0: "zero"})
    text = file.read_text()
    for torn in (text[:-1], text[:-5], text + '{"2": "tw'):
        file.write_text(torn)
        expected = {3: "three\n", 1: "one"} | ({0: "zero"} if torn.startswith(text) else {})
        again = KeptAnswers(file, {"weights": "a"})
        assert again.known == expected
        again.add({9: "nine"})
        assert KeptAnswers(file, {"weights": "a"}).known == {**expected, 9: "nine"}
    assert KeptAnswers(file, {"weights": "b"}).known == {} and not file.exists()


def test_nothing_is_kept_before_there_is_an_answer(tmp_path):
    KeptAnswers(tmp_path / "out.partial" / "answers.jsonl", {"weights": "a"})
    assert digests(tmp_path) == {}


def test_a_report_is_replaced_only_by_a_finished_one(tmp_path, files, asked):
    base, _, sets = files
    out = tmp_path / "out"
    measure(base, out=out, **SETTINGS, **sets)
    before = digests(out)
    asked[0].clear()
    harmful = write_rows(tmp_path / "few.jsonl", [{"prompt": "How?"}, {"prompt": "Why?"}])
    _interrupted(base, out, asked, **SETTINGS, **{**sets, "harmful": harmful}, overwrite=True)
    assert digests(out) == before
    measure(base, out=out, **SETTINGS, **{**sets, "harmful": harmful}, overwrite=True)
    assert sum(row["set"] == "harmful" for row in read_jsonl(out / "answers.jsonl")) == 2
