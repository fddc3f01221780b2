"""The Hub is reached where something of it was named, and nowhere else."""

import json
import os
import subprocess
import sys

import pytest
from tests.tiny import save_tiny
from tests.workflows.files import write_rows
from typer.testing import CliRunner

from moored import cli
from moored.cli import demo, inspect_basin, inspect_gradients, inspect_spectrum, measure, recover, select, train


class Reached(Exception):
    """The command is about to import its libraries."""


@pytest.fixture
def offline_for(tmp_path, monkeypatch):
    """Whether the libraries that a command line imports are kept off the network."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    for name, base in (("over", "ORG/MODEL"), ("own", "here/model")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    config = "model: here/model\noutput_dir: runs/out\ndataset: embedded:base\n"
    (tmp_path / "local.yaml").write_text(config)
    (tmp_path / "hub.yaml").write_text(config + "safeguards: [{name: alignment_direction, base: ORG/MODEL}]\n")
    (tmp_path / "push.yaml").write_text(config + "push_to_hub: true\n")

    def stop():
        raise Reached

    for command in (demo, inspect_basin, inspect_gradients, inspect_spectrum, measure, recover, select, train):
        monkeypatch.setattr(command, "quiet_libraries", stop)

    def offline_for(line, stated=None):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        if stated is not None:
            monkeypatch.setenv("HF_HUB_OFFLINE", stated)
        done = CliRunner().invoke(cli.app, line.split())
        assert isinstance(done.exception, Reached), done.output
        return os.environ.get("HF_HUB_OFFLINE")

    return offline_for


@pytest.mark.parametrize(
    "line",
    [
        "demo",
        "measure embedded:aligned --out out",
        "measure here/model --against own --harmful here/model --out out",
        "measure own --out out",
        "recover here/model --adapter over --choose-from embedded --out out",
        "select here/model --model embedded:base --out out",
        "inspect basin embedded:aligned --base embedded:base --out out",
        "inspect gradients here/model --data ./rows.jsonl --out out",
        "inspect spectrum /absent --out out",
        "train local.yaml --set output_dir=runs/other",
        "train absent.yaml",
    ],
)
def test_what_names_nothing_of_the_hub_stays_offline(offline_for, line):
    assert offline_for(line) == "1"
    assert offline_for(line, stated="0") == "0"


@pytest.mark.parametrize(
    "line",
    [
        "measure ORG/MODEL --out out",
        "measure gpt2 --out out",
        "measure over --out out",
        "measure embedded:base --against ORG/MODEL --out out",
        *(f"measure here/model --{role} ORG/ROWS --out out" for role in ("harmful", "harmless", "ordinary", "task")),
        "recover ORG/MODEL --adapter over --out out",
        "recover here/model --against ORG/MODEL --out out",
        "recover here/model --base ORG/MODEL --out out",
        "recover here/model --choose-from ORG/ROWS --out out",
        "select ORG/ROWS --model here/model --out out",
        "select here/model --model ORG/MODEL --out out",
        "inspect basin here/model --base ORG/MODEL --out out",
        "inspect gradients here/model --data ORG/ROWS --out out",
        "inspect spectrum ORG/MODEL --out out",
        "train hub.yaml",
        "train push.yaml",
        "train local.yaml --set model=ORG/MODEL",
    ],
)
def test_a_name_of_the_hub_goes_to_the_hub_unless_the_user_forbids_it(offline_for, line):
    assert offline_for(line) is None
    assert offline_for(line, stated="1") == "1"


_WATCHED = """
import socket, sys, time
def refuse(*arguments, **_):
    print("reached", arguments[0], file=sys.stderr)
    raise OSError("no network")
socket.getaddrinfo = socket.socket.connect = refuse
time.sleep = lambda _: None  # before a library tries again
from moored.cli import main
main()
"""


def _watched(tmp_path, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", _WATCHED, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_local_folder_makes_no_network_call_and_a_hub_id_does(tmp_path):
    model = str(save_tiny(tmp_path / "model"))
    rows = write_rows(tmp_path / "rows.jsonl", [{"prompt": "Who?"}])
    rest = ["--harmful", rows, "--harmless", "none", "--ordinary", "none", "--max-new-tokens", "2"]
    done = _watched(tmp_path, "measure", model, *rest, "--out", str(tmp_path / "out"))
    assert done.returncode == 0 and "reached" not in done.stderr, done.stderr
    done = _watched(tmp_path, "measure", "nobody/nothing", *rest, "--out", str(tmp_path / "other"))
    assert done.returncode == 2 and "reached huggingface.co" in done.stderr, done.stderr
    assert "no folder here, and not to be had from the Hub" in done.stderr
