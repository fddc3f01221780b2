"""Files of odd and broken content: each is read, or refused in one sentence that names what is wrong."""

import json
import struct
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from safetensors.torch import load_file
from tests.adapters import save_adapter
from tests.report.conftest import made_answers, made_report
from tests.stress import made
from tests.tiny import save_tiny, tiny_tokenizer

from moored import verbs
from moored.files import write_jsonl
from moored.huggingface.data import Supervision, read_rows, supervise
from moored.huggingface.models import ModelSource, load_tokenizer, require_fit
from moored.report import redraw
from moored.workflows.inputs.prompt_sets import load_prompt_sets
from moored.workflows.measure.settings import MeasureSettings
from moored.workflows.train.config import read_config

pytestmark = pytest.mark.filterwarnings("ignore")  # Of the libraries, which have read stranger things.


def test_prompts(tmp_path: Path, read_made: Any) -> None:
    file = tmp_path / "prompts.jsonl"

    def read(content: bytes) -> None:
        file.write_bytes(content)
        load_prompt_sets({"harmful": str(file)}, limit=None)

    read_made("prompts in JSONL", made.json_lines(made.PROMPTS), read, count=2500)


@pytest.mark.parametrize("render", ["chat", "raw"])
def test_training_rows(tmp_path: Path, read_made: Any, render: Any) -> None:
    file, how = tmp_path / "rows.jsonl", Supervision(tokenizer=tiny_tokenizer(), render=render)

    def read(content: bytes) -> None:
        file.write_bytes(content)
        supervise(read_rows(file), how, where=file.name)

    read_made(f"training rows, render: {render}", made.json_lines(made.ROWS), read, count=1500)


TRAINING = made.mappings(
    {"model": made.NAMES, "dataset": made.NAMES, "output_dir": made.NAMES},
    {
        "lora": st.dictionaries(made.NAMES | st.just("r"), made.VALUES, max_size=2),
        "safeguards": st.lists(made.mappings({"name": made.NAMES}, {"strength": made.NUMBERS}), max_size=2),
        "drift": made.mappings({}, {"limit": st.integers(), "stop": made.NUMBERS, "prompts": made.TEXTS}),
        "learning_rate": made.NUMBERS,
        "max_length": st.integers(),
        "render": st.sampled_from(["chat", "raw"]),
    },
)


def test_training_files(tmp_path: Path, read_made: Any) -> None:
    file = tmp_path / "run.yaml"

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_config(file)

    read_made("training files in YAML", made.yaml_files(TRAINING), read, count=1500)


def test_overrides(tmp_path: Path, read_made: Any) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("{model: m, dataset: d, output_dir: o}")
    overrides = st.lists(st.builds("{}{}{}".format, made.NAMES | made.TEXTS, st.sampled_from("=. "), made.TEXTS))
    read_made("overrides of a training file", overrides, lambda given: read_config(file, given), count=1000)


ADAPTER = {
    "peft_type": st.sampled_from(["LORA", "IA3", "XLORA", "PREFIX_TUNING"]),
    "r": st.integers(-1, 8),
    "lora_alpha": made.NUMBERS,
    "target_modules": st.lists(st.sampled_from(["q_proj", "v_proj", "lm_head", "none"])) | st.just("all-linear"),
    "bias": st.sampled_from(["none", "all", "lora_only", "some"]),
    "use_rslora": st.booleans(),
    "use_dora": st.booleans(),
    "rank_pattern": st.dictionaries(made.NAMES, st.integers(0, 8)),
    "layers_to_transform": st.lists(st.integers(-1, 4)),
    "init_lora_weights": st.booleans() | st.sampled_from(["gaussian", "pissa", "loftq", "eva"]),
    "modules_to_save": st.lists(st.sampled_from(["lm_head", "embed_tokens", "none"])),
}


@pytest.fixture
def adapter(tmp_path: Path) -> ModelSource:
    """A tiny base and a LoRA for it."""
    base = save_tiny(tmp_path / "base")
    return ModelSource(str(base), save_adapter(tmp_path / "adapter"))


def test_adapter_configurations(adapter: ModelSource, read_made: Any) -> None:
    assert adapter.adapter is not None
    file = adapter.adapter / "adapter_config.json"
    usual = json.loads(file.read_text())

    def read(content: bytes) -> None:
        file.write_bytes(content)
        require_fit(adapter)

    configurations = made.mappings({}, ADAPTER).map(lambda changes: usual | changes)
    read_made("adapter_config.json", made.files(configurations), read, count=1000)


def test_adapter_weights(adapter: ModelSource, read_made: Any) -> None:
    """Headers whose names, types, shapes or offsets are not those of the data behind them."""
    assert adapter.adapter is not None
    file = adapter.adapter / "adapter_model.safetensors"
    size = len(load_file(file))
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = sorted(set(header) - {"__metadata__"})
    assert len(names) == size
    entries = made.mappings(
        {"dtype": st.sampled_from(["F32", "F16", "I8", "F8_E4M3", "X1"]), "shape": st.lists(st.integers(0, 32))},
        {"data_offsets": st.lists(st.integers(0, 99), max_size=3)},
    )

    def read(changes: dict[str, Any]) -> None:
        text = json.dumps({name: entry for name, entry in {**header, **changes}.items() if entry}).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data)
        require_fit(adapter)

    changes = st.dictionaries(st.sampled_from(names) | made.NAMES, entries | st.none(), max_size=2)
    read_made("headers of safetensors files", changes, read, count=1000)


def test_tokenizer_configurations(tmp_path: Path, read_made: Any) -> None:
    folder = save_tiny(tmp_path / "base")
    file = folder / "tokenizer_config.json"
    usual = json.loads(file.read_text())
    keys = {
        "chat_template": made.TEXTS,
        "eos_token": made.TEXTS,
        "pad_token": made.TEXTS,
        "model_max_length": made.NUMBERS,
        "tokenizer_class": st.sampled_from(["PreTrainedTokenizerFast", "LlamaTokenizer", "NoTokenizer"]),
        "padding_side": st.sampled_from(["left", "right", "up"]),
        "added_tokens_decoder": st.dictionaries(made.NAMES, made.VALUES, max_size=2),
    }

    def read(content: bytes) -> None:
        file.write_bytes(content)
        load_tokenizer(ModelSource(str(folder)))

    configurations = made.mappings({}, keys).map(lambda changes: usual | changes)
    read_made("tokenizer_config.json", made.files(configurations), read, count=500)


def test_reports(tmp_path: Path, read_made: Any) -> None:
    write_jsonl(tmp_path / "answers.jsonl", made_answers(0.1, 0.9))
    usual = made_report()
    changes = st.dictionaries(st.sampled_from(sorted(usual)), made.VALUES, max_size=2)

    def read(content: bytes) -> None:
        (tmp_path / "report.json").write_bytes(content)
        redraw(tmp_path)

    read_made("report.json", made.files(changes.map(lambda changed: usual | changed)), read, count=400)


def test_answers(tmp_path: Path, read_made: Any) -> None:
    (tmp_path / "report.json").write_text(json.dumps(made_report()))
    usual = made_answers(0.1, 0.9)[:1][0]
    changes = st.dictionaries(st.sampled_from(sorted(usual)), made.VALUES, max_size=2)

    def read(content: bytes) -> None:
        (tmp_path / "answers.jsonl").write_bytes(content)
        redraw(tmp_path)

    read_made("answers.jsonl", made.json_lines(changes.map(lambda changed: usual | changed)), read, count=400)


def test_settings(read_made: Any) -> None:
    names = ["model", "adapter", "limit", "batch_size", "out", "thinking", "dtype", "drift_prompts", "judge", "other"]

    def read(given: dict[str, Any]) -> None:
        verbs._settings(MeasureSettings, "measure", (), given)

    read_made("settings in Python", st.dictionaries(st.sampled_from(names), made.VALUES), read, count=1000)
