from tests.adapters import save_adapter
from tests.tiny import save_tiny
from typer.testing import CliRunner

from moored import cli
from moored.cli import inspect_basin as command


def test_lengths_and_visage_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    base, out = save_tiny(tmp_path / "base"), tmp_path / "out"
    adapter = save_adapter(tmp_path / "adapter", base=str(base))
    arguments = ["--base", str(base), "--random", "2", "--prompts", "2", "--no-plane", "--out", str(out)]
    done = CliRunner().invoke(cli.app, ["inspect", "basin", str(base), "--adapter", str(adapter), *arguments])
    assert done.exit_code == 0, done.output
    plain = " ".join(done.output.split())
    assert "along the harmful direction" in plain and "along aligned − base" in plain
    assert "VISAGE over the random directions" in plain
    assert (out / "index.html").is_file() and "Both directions" not in (out / "index.html").read_text()
