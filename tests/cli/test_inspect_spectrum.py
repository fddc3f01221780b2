from tests.tiny import save_tiny
from typer.testing import CliRunner

from moored import cli
from moored.cli import inspect_spectrum as command


def test_the_findings_are_told_and_the_page_named(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    base, out = save_tiny(tmp_path / "base"), tmp_path / "out"
    arguments = ["--out", str(out), "--batch", "2", "--prompt", "How do I hurt him?", "--refusal", "I cannot help."]
    done = CliRunner().invoke(cli.app, ["inspect", "spectrum", str(base), *arguments])
    assert done.exit_code == 0, done.output
    plain = " ".join(done.output.split())
    assert "those of a benign example of equal length" in plain and "Cosine with the gradient of complying" in plain
    assert "How do I hurt him?" in (out / "index.html").read_text()
