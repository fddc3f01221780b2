"""A checkpoint may bring program code along; none of it is ever run, and nobody is asked whether to run it."""

import ast
import builtins
import json
from pathlib import Path

import pytest
from tests.adapters import save_adapter
from tests.tiny import save_tiny

import moored
from moored.errors import ModelError
from moored.huggingface.models import ModelSource, context_length, load_model, load_tokenizer, require_fit

ROOT = Path(__file__).parents[3]
FOLDERS = [Path(moored.__file__).parent, ROOT / "recipes", ROOT / "benchmarks"]
_LOADERS = ("from_pretrained", "from_config")
_NO_CODE = ("PeftConfig", "PeftModel")
"""Classes that load no code whatever they are told, and have no such argument."""


def _loading_calls(folder):
    for file in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOADERS:
                yield file, node


def _states_it(call):
    values = [keyword.value for keyword in call.keywords if keyword.arg == "trust_remote_code"]
    return [isinstance(value, ast.Constant) and value.value is False for value in values] == [True]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_call_that_could_run_code_says_that_it_must_not(folder):
    calls = [(file, call) for file, call in _loading_calls(folder) if ast.unparse(call.func.value) not in _NO_CODE]
    assert calls or folder.name != "moored"
    assert [f"{file.name}:{call.lineno}" for file, call in calls if not _states_it(call)] == []


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that the checkpoint's code would write; whoever asks on the terminal is told yes."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(builtins, "input", lambda *_: "y")
    return tmp_path / "ran"


def _with_code(folder, marker, file, classes, **changes):
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\nraise ImportError('ran')\n")
    settings = json.loads((folder / file).read_text())
    settings |= {"auto_map": {name: f"own.{name}" for name in classes}, **changes}
    (folder / file).write_text(json.dumps(settings))


def test_a_model_of_its_own_code_is_refused_without_a_question(tmp_path, marker):
    model = save_tiny(tmp_path / "model")
    classes = ["AutoConfig", "AutoModelForCausalLM"]
    _with_code(model, marker, "config.json", classes, model_type="homemade", architectures=["Homemade"])
    plain, adapted = ModelSource(str(model)), ModelSource(str(model), save_adapter(tmp_path / "adapter"))
    for load in (load_model, context_length, lambda _: require_fit(adapted)):
        with pytest.raises(ModelError, match=r"model needs program code of its own .* never runs; name a model") as got:
            load(plain)
        assert "\n" not in str(got.value)
    assert not marker.exists()


def test_a_tokenizer_of_its_own_code_is_refused_without_a_question(tmp_path, marker):
    model = save_tiny(tmp_path / "model")
    _with_code(model, marker, "tokenizer_config.json", [], tokenizer_class="Homemade")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "own.Homemade"]}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"model needs program code of its own"):
        load_tokenizer(ModelSource(str(model)))
    assert not marker.exists()


def test_code_beside_a_model_that_transformers_knows_is_left_alone(tmp_path, marker):
    model = save_tiny(tmp_path / "model")
    _with_code(model, marker, "config.json", ["AutoConfig", "AutoModelForCausalLM"])
    load_model(ModelSource(str(model)))
    load_tokenizer(ModelSource(str(model)))
    assert not marker.exists()
