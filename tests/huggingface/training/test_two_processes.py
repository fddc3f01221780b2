import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs
from tests.huggingface.training.two_processes import CASES, STEPS, train

from moored.huggingface.training import newest_complete

_ = light_runs
pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder of each case, trained by two processes; one launch for all, since that takes longest."""
    out = tmp_path_factory.mktemp("two")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [*launch, str(Path(__file__).with_name("two_processes.py")), str(out)]
    # A process that waits for another one in vain would wait for ever.
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def _logs(out):
    """Per step the loss and what the safeguards logged."""
    newest = newest_complete(out / "run")
    assert newest is not None and newest.name == f"checkpoint-{STEPS}"
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    steps = [entry for entry in history if "loss" in entry]
    return [{key: entry[key] for key in entry if key == "loss" or key.startswith("safety/")} for entry in steps]


def _counts(out):
    """Rows and kept rows of each safeguard."""
    return [(report.get("rows"), report.get("kept")) for report in json.loads((out / "reports.json").read_text())]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_does(tmp_path, two, name):
    one, two = tmp_path, two / name
    train(one, name, 1)
    weights = load_file(two / "weights.safetensors")
    for key, weight in load_file(one / "weights.safetensors").items():
        torch.testing.assert_close(weights[key], weight, rtol=1e-4, atol=2e-6)
    logs = list(zip(_logs(one), _logs(two), strict=True))
    assert len(logs) == STEPS
    for mine, theirs in logs:
        assert len(mine) > 1 and theirs == pytest.approx(mine, rel=1e-3, abs=1e-5)
    assert _counts(one) == _counts(two)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("one row")])
def test_a_process_that_keeps_no_row_waits_for_nothing(two, name):
    labelled = [json.loads((two / name / f"labelled-{process}.json").read_text()) for process in (0, 1)]
    for ours, theirs in zip(*labelled, strict=True):
        assert (ours == 0) != (theirs == 0), "the one row that is kept is in one process"
    assert any(0 in each for each in labelled)


def test_processes_make_a_cache_together_and_refuse_one_together(two):
    for process in (0, 1):
        told = json.loads((two / f"cache-{process}.json").read_text())
        assert told["same"] and told["sizes"] == [4, 4, 4]
        assert "was made with other weights" in told["refused"], "also where the other process alone has others"
