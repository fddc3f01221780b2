import os
import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file
from tests.tiny import save_tiny

from moored.workflows.train.config import read_config

ROOT = Path(__file__).parents[2]


def test_the_users_own_trl_script_runs_with_four_lines_changed(tmp_path):
    model = save_tiny(tmp_path / "model")
    script, data = ROOT / "examples" / "trl_script.py", ROOT / "examples" / "capitals.jsonl"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(model), str(data), str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "harmful_direction: strength 1, holds 14 weights (100% of what is trained)" in done.stdout
    factors = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert any(weight.any() for name, weight in factors.items() if "lora_B" in name)


def test_the_script_marks_the_lines_that_change():
    text = (ROOT / "examples" / "trl_script.py").read_text()
    assert [f"# {number}: " in text for number in (1, 2, 3, 4, 5)] == [True, True, True, True, False]


def test_the_example_recipe_is_a_valid_configuration():
    config = read_config(ROOT / "recipes" / "example.yaml")
    assert config.model == "embedded:aligned" and (ROOT / config.dataset).is_file()
