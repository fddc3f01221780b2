import json
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from tests.tiny import save_tiny
from tests.workflows.files import write_rows
from typer.testing import CliRunner

from moored import cli
from moored.cli import inspect_gradients as command
from moored.workflows.inspect.settings import GradientsSettings

ROWS = [{"prompt": f"Say {n}.", "completion": "It is sunny. " * (n + 1)} for n in range(5)]


@pytest.fixture
def inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs `moored inspect gradients` on a tiny model."""
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    monkeypatch.setenv("COLUMNS", "120")
    model = save_tiny(tmp_path / "model")
    data = write_rows(tmp_path / "rows.jsonl", ROWS)

    def run(*arguments: Any):
        words = ["inspect", "gradients", model, "--data", data, "--out", tmp_path / "out", *arguments]
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    return run


def test_it_writes_the_report_and_its_page_and_says_so(tmp_path: Path, inspected: Any):
    base = save_tiny(tmp_path / "base", seed=1)
    done = inspected("--base", base, "--top", 20, "--keep", 0.4, "--batch-size", 2, "--limit", 4, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "norm and length, rho" in done.output and "cosine with the base direction, high" in done.output
    assert "Report: " in done.output and (tmp_path / "out" / "index.html").is_file()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["base_direction"]["top"], report["keep"], report["data"]["sampled"], report["seed"]) == (
        20,
        0.4,
        4,
        3,
    )


def test_lora_has_no_base_direction_and_it_is_said(tmp_path: Path, inspected: Any):
    done = inspected("--parameters", "lora", "--max-length", 40)
    assert done.exit_code == 0, done.output
    assert "--parameters all" in done.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["parameters"]["which"] == "lora" and report["data"]["max_length"] == 40


def test_the_choices_are_those_of_the_workflow():
    from moored.huggingface.gradients.scored_model import Parameters

    assert get_type_hints(GradientsSettings)["parameters"] == Parameters


def test_an_error_is_one_sentence_and_exit_2(tmp_path: Path, monkeypatch: Any, capsys: Any):
    words = ["inspect", "gradients", "absent/model", "--data", "absent.jsonl", "--out", str(tmp_path / "out")]
    for arguments, says in ((words, "moored: "), (["inspect", "gradient"], "see `moored inspect --help`")):
        monkeypatch.setattr(command, "quiet_libraries", lambda: None)
        monkeypatch.setattr(sys, "argv", ["moored", *arguments])
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        assert ended.value.code == 2 and printed.out == "" and says in printed.err
    assert not (tmp_path / "out").exists()


def test_the_group_names_its_sub_commands(monkeypatch: Any, capsys: Any):
    monkeypatch.setattr(sys, "argv", ["moored", "inspect", "--help"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0 and "gradients" in capsys.readouterr().out
