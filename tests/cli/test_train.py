import json

import yaml
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.tiny import save_tiny
from typer import Typer
from typer.testing import CliRunner

from moored.cli import _options
from moored.cli import train as command
from moored.cli.train import train_command

pytestmark = THIRD_PARTY_WARNINGS


def _invoke(*arguments):
    app = Typer()
    app.command()(train_command)
    return CliRunner().invoke(app, list(arguments))


def test_it_trains_and_says_what_to_do_next(tmp_path, monkeypatch):
    # Other tests need the warnings and progress bars that the command switches off for its process.
    monkeypatch.setattr(command, "quiet_libraries", lambda: None)
    save_tiny(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Who?", "completion": "Me."}\n' * 4)
    config = {"model": str(tmp_path / "model"), "dataset": str(tmp_path / "rows.jsonl")}
    config |= {"output_dir": str(tmp_path / "out"), "max_steps": 2, "use_cpu": True, "bf16": False}
    config |= {"activation_checkpointing": False, "disable_tqdm": True}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    done = _invoke(str(tmp_path / "run.yaml"), "--set", "max_steps=1", "--set", "lora.r=4", "--resume")
    assert done.exit_code == 0, done.output
    assert "1 steps, mean loss" in done.output and "Next: moored measure" in done.output
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["r"] == 4


def test_help_names_every_option():
    printed = _invoke("--help").output
    assert "--set" in printed and "--resume" in printed
    assert callable(_options.quiet_libraries)
