"""What the paired benchmarks make of seconds and findings, without running anything."""

import argparse
import sys
from types import SimpleNamespace

import pytest

from benchmarks.speed import paired, recovery, regularizers, selection


def _benchmark(**more):
    cases = {"one": SimpleNamespace(variants=("limit", "moored", "rival"), seconds=1.0)}
    stated = {"name": "s", "about": "", "title": "T", "aims": "A.", "cases": cases}
    twins = {"finds": "norms", "twin": lambda variant: "moored", "tolerance": lambda options: 0.01}
    return paired.Benchmark(**{**stated, **twins, **more})


def test_ratios_are_those_of_the_rounds():
    found = paired.times([2.0, 3.0, 40.0], [1.0, 2.0, 4.0])
    assert found == {"seconds": 3.0, "ratio": 2.0, "ratio_low": 1.75, "ratio_high": 6.0, "rounds": 3}
    assert paired.times(None, [1.0]) == {"seconds": None, "ratio": None}


def test_what_finds_other_than_its_twin_is_an_error():
    probes = {
        "limit": {"found": None},
        "moored": {"found": [1.0, 2.0]},
        "near": {"found": [1.0, 2.01]},
        "far": {"found": [1.1, 2.0]},
        "broken": {"error": "no"},
    }
    paired.compare(probes, _benchmark(), 0.01)
    assert probes["limit"] == {} and probes["broken"] == {"error": "no"}
    assert probes["moored"] == {"difference": 0.0}
    assert probes["near"]["difference"] == pytest.approx(0.005) and "error" not in probes["near"]
    assert probes["far"]["error"] == "its norms differ from those of moored by up to 1.0e-01"


def test_without_its_twin_nothing_is_right():
    probes = {"moored": {"error": "no"}, "rival": {"found": [1.0]}}
    paired.compare(probes, _benchmark(), 0.01)
    assert "error" in probes["rival"]


def _part(benchmark, part, name, variants, options):
    """In place of a process."""
    if part == "probe":
        return {"peak_mib": 7, "found": {"limit": None, "moored": [1.0], "rival": [2.0]}[variants[0]]}
    assert variants == ["limit", "moored"]  # The rival is wrong.
    return {"limit": [1.0, 1.0], "moored": [1.5, 1.5]}


def test_a_finished_case_is_measured_again_only_with_other_settings(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(paired, "apart", lambda *call: calls.append(call[1]) or _part(*call))
    benchmark = _benchmark()
    options = argparse.Namespace(run=tmp_path, json=tmp_path / "out.json", threads=2, rounds=2)
    rows = paired.finished(benchmark, "one", options)
    assert [row["ratio"] for row in rows] == [1.0, 1.5, None]
    assert rows[1] == {
        "case": "one", "variant": "moored", "seconds": 1.5, "ratio": 1.5, "ratio_low": 1.5, "ratio_high": 1.5,
        "rounds": 2, "peak_mib": 7, "difference": 0.0,
    }  # fmt: skip
    assert calls == ["probe"] * 3 + ["clock"]
    options.json = tmp_path / "elsewhere.json"
    assert paired.finished(benchmark, "one", options) == rows and len(calls) == 4
    options.rounds = 3
    paired.finished(benchmark, "one", options)
    assert len(calls) == 8


def test_the_estimate_counts_a_probe_a_warm_up_and_the_processes():
    assert paired.estimate(_benchmark().cases.values(), 7) == 9 * 1.0 + 10 * 4


def test_the_table_tells_ratios_and_errors_and_aims(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["s.py"])
    spread = {"ratio_low": 1.4, "ratio_high": 1.6}
    rows = [
        {"case": "one", "variant": "moored", "seconds": 1.5, "ratio": 1.5, "peak_mib": 7, **spread},
        {"case": "one", "variant": "rival", "seconds": None, "ratio": None, "peak_mib": None, "error": "no"},
    ]
    lines = paired.markdown(_benchmark(), rows, 2).splitlines()
    assert lines[0] == "# T" and lines[-1] == "A."
    assert lines[-4:-2] == ["| one | moored | 1.5 | 1.50 [1.40, 1.60] | 7 |", "| one | rival |  | no |  |"]
    rows[0] |= {"ratio": 0.0049, "ratio_low": 0.0045, "ratio_high": 0.1}
    assert "| 0.005 [0.004, 0.10] |" in paired.markdown(_benchmark(), rows, 2)


@pytest.mark.parametrize("script", [selection, regularizers, recovery])
def test_each_script_measures_ours_against_a_limit(script):
    for case in script.CASES.values():
        assert case.variants[0] == "limit" and case.seconds > 0
        assert any(variant.startswith("moored") for variant in case.variants)
