import json
import shlex

import pytest
from tests.adapters import save_adapter
from tests.tiny import save_tiny
from tests.workflows.files import digests, write_rows
from typer.testing import CliRunner

from moored.measurement import Comparison, Outcome
from moored.workflows.inputs import example_pool as _example_pool
from moored.workflows.measure import report as workflow


@pytest.fixture
def measured(tmp_path):
    """Runs `moored measure` on a tiny model with few prompts."""
    base = save_tiny(tmp_path / "base")
    files = {
        name: write_rows(tmp_path / f"{name}.jsonl", [{"prompt": f"{name} {n}?"} for n in range(3)])
        for name in ("harmful", "harmless")
    }

    def run(*arguments, **changes):
        from moored.cli import app

        given = {**files, "ordinary": "none", "max-new-tokens": "4", "out": str(tmp_path / "out"), **changes}
        options = [part for name, value in given.items() if value is not None for part in (f"--{name}", value)]
        return CliRunner().invoke(app, ["measure", str(base), *map(str, arguments), *options])

    return run


def test_it_writes_the_report_and_its_page_and_says_so(tmp_path, measured):
    adapter = save_adapter(tmp_path / "adapter")
    done = measured("--adapter", adapter)
    assert done.exit_code == 0, done.output
    found = digests(tmp_path / "out")
    assert {"report.json", "answers.jsonl", "answers_reference.jsonl"} < found.keys()
    assert any(name.endswith(".html") for name in found)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "ordinary" not in report["prompts"] and report["prompts"]["harmful"]["n"] == 3
    assert report["model"]["precision"] == report["against"]["model"]["precision"] == "float32"
    assert "No detectable difference: the model answers " in done.output and "Report: " in done.output


def test_the_precision_is_the_one_that_was_asked_for(tmp_path, measured):
    done = measured(dtype="bfloat16")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "out" / "report.json").read_text())["model"]["precision"] == "bfloat16"


def test_the_next_command_is_one_that_runs(tmp_path, measured, monkeypatch):
    from moored.cli import app

    worse = Comparison(outcome=Outcome.WORSE, n=0)
    monkeypatch.setattr(workflow, "compare", lambda *_: {"asr": worse})
    monkeypatch.setattr(workflow, "verdict", lambda *_: "Drifted: so it seems.")
    adapter = save_adapter(tmp_path / "an adapter [v2]")
    done = measured("--adapter", adapter)
    assert "Drifted: so it seems." in done.output
    line = next(line for line in done.output.splitlines() if line.startswith("Next: "))
    words = shlex.split(line.removeprefix("Next: "))
    assert words[:2] == ["moored", "recover"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_example_pool, "generate", lambda *_, **__: ["I cannot help with that."])
    repaired = CliRunner().invoke(app, words[1:])
    assert repaired.exit_code == 0, repaired.output
    assert (tmp_path / "recovered" / "adapter_model.safetensors").is_file()


def test_an_error_leaves_nothing(tmp_path, measured):
    done = measured(harmful=str(tmp_path / "absent.jsonl"))
    assert done.exit_code == 1 and "There is no file" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_old_report_is_kept_unless_it_may_be_replaced(tmp_path, measured):
    assert measured().exit_code == 0
    assert "not empty" in str(measured().exception)
    assert measured("--overwrite").exit_code == 0
