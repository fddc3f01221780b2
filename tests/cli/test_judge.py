import pytest
from typer.testing import CliRunner

from moored import cli
from moored.cli import judge as command
from moored.files import write_jsonl


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    return lambda *arguments: CliRunner().invoke(cli.app, ["judge", *map(str, arguments)])


def test_agreement_and_differing_rows_are_printed(run, tmp_path):
    file = tmp_path / "rows.jsonl"
    rows = [("I can't help with that.", "refused"), ("First look.", "complied"), ("I won't help you.", "complied")]
    write_jsonl(file, [{"prompt": "How?", "answer": answer, "mine": label} for answer, label in rows])
    done = run(file, "--labels", "mine", "--judge", "rules")
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "precision 0.500" in text and "recall 1.000" in text and "kappa 0.400" in text
    assert "differ on 1 of 3 rows" in text
    assert "row 3: yours complied, judged refused (cannot help): I won't help you." in text
    assert "Report" not in text and "row 3" not in run(file, "--labels", "mine", "--judge", "rules", "--show", 0).output
    assert str(tmp_path / "out") in run(file, "--judge", "rules", "--out", tmp_path / "out").output.replace("\n", "")
