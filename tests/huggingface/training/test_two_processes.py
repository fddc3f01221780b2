import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.huggingface.training.two_processes import train

from moored.huggingface.training import newest_complete

pytestmark = THIRD_PARTY_WARNINGS

ROOT = Path(__file__).parents[3]


def _train_with_two(out, batch_size, average):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = Path(__file__).with_name("two_processes.py")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [*launch, str(script), str(out), str(batch_size), str(average)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def _penalty_log(out):
    newest = newest_complete(out / "run")
    assert newest is not None and newest.name == "checkpoint-4"
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in history if "safety/l2/share" in entry]


@pytest.mark.parametrize("average", [True, False], ids=["tokens of all devices", "tokens of each device"])
def test_two_processes_train_what_one_does(tmp_path, average):
    one, two = tmp_path / "one", tmp_path / "two"
    train(one, 2, average)
    _train_with_two(two, 1, average)
    weights = load_file(two / "weights.safetensors")
    for name, weight in load_file(one / "weights.safetensors").items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=2e-6)
    logs = list(zip(_penalty_log(one), _penalty_log(two), strict=True))
    assert len(logs) == 4
    for mine, theirs in logs:
        for key in ("loss", "safety/l2/value", "safety/l2/share"):
            assert theirs[key] == pytest.approx(mine[key], rel=1e-3, abs=1e-7)
