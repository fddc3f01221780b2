import json

import pytest
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.tiny import save_tiny
from tests.workflows.files import write_rows
from typer.testing import CliRunner

from moored.selection import RULES

pytestmark = THIRD_PARTY_WARNINGS
ROWS = [{"prompt": f"What is {n}?", "completion": "It is sunny. " * (1 + n % 4)} for n in range(10)]


@pytest.fixture
def selected(tmp_path):
    """Runs `moored select` on a tiny model and gives the result and the report."""
    base, data = save_tiny(tmp_path / "base"), write_rows(tmp_path / "rows.jsonl", ROWS)

    def run(*arguments, model=base):
        from moored.cli import app

        words = ["select", data, "--model", str(model), "--out", str(tmp_path / "out"), *map(str, arguments)]
        report = tmp_path / "out" / "report.json"
        done = CliRunner().invoke(app, words)
        return done, json.loads(report.read_text()) if report.is_file() else None

    return run


def test_it_writes_everything_and_says_where(tmp_path, selected):
    done, report = selected("--keep", 0.3)
    assert done.exit_code == 0, done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "index.html", "kept.jsonl", "kept_indices.json", "report.json", "scored.jsonl",
    }  # fmt: skip
    assert "Kept 3 of 10 rows by the rule moderate." in done.output
    assert "Gradient norm and answer length: Spearman’s ρ = " in done.output and "n=10" in done.output
    assert f"Kept rows: {tmp_path / 'out' / 'kept.jsonl'}; name it as the dataset of moored train" in done.output
    assert "Rows selected from rows.jsonl" in (tmp_path / "out" / "index.html").read_text()
    assert report["versions"]["moored"] and report["finished"]
    again, same = selected("--keep", 0.3, "--resume")
    assert again.exit_code == 0 and same == report and "Kept 3 of 10 rows" in again.output


def test_every_option_reaches_the_selection(selected):
    words = "--rule low --keep 0.5 --seed 7 --parameters lora --split test --render raw --max-length 20 --batch-size 2"
    done, report = selected(*words.split(), "--format", "datasets")
    assert done.exit_code == 0, done.output
    stated = {"rule": "low", "keep": 0.5, "seed": 7, "parameters": "lora", "split": "test", "render": "raw"}
    stated |= {"max_length": 20, "batch_size": 2, "format": "datasets"}
    assert stated.items() <= report["settings"].items() and report["files"]["kept"] == "kept"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rule", "best"], "There is no selection rule best; the rules are moderate"),
        (["--keep", "0"], "keep must be above 0 and at most 1"),
        (["--adapter", "absent"], "There is no adapter folder absent"),
    ],
)
def test_a_mistake_is_a_user_error_and_leaves_nothing(tmp_path, selected, arguments, sentence):
    done, report = selected(*arguments)
    assert getattr(done.exception, "exit_code", None) == 2 and sentence in str(done.exception)
    assert report is None and not (tmp_path / "out").exists()


def test_the_help_names_every_rule(selected):
    from moored.cli import app

    printed = CliRunner().invoke(app, ["select", "--help"], env={"COLUMNS": "200"}).output
    assert all(name in printed for name in RULES)
