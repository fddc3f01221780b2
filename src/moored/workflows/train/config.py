"""The configuration of `moored train`: TRL's settings and ours side by side in one flat YAML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from moored.errors import InputError, blaming
from moored.files import read_text
from moored.huggingface.training.arguments import sft_fields
from moored.settings import require_known, typed
from moored.workflows.inputs.prompt_sets import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """What to measure while training."""

    prompts: str = EMBEDDED
    """Harmful requests: `embedded`, a file with a column `prompt`, or a Hub id."""
    ordinary: str = EMBEDDED
    """Everyday instructions, in the same forms."""
    limit: int = 32
    """Maximum prompts of each kind."""
    stop: float | None = None
    """Stop once the refusal log-odds have fallen this many nats below the start; null never stops."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The keys of a training file that are ours; every other key is a field of TRL's SFTConfig and goes to TRL."""

    model: str
    """A folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    dataset: str
    """A JSONL, JSON, Parquet or CSV file, a folder that `datasets` saved, or a Hub id."""
    output_dir: str
    """The folder for the adapter or checkpoint; must be empty or absent."""
    adapter: str | None = None
    """A PEFT adapter folder to apply to the model before the run."""
    reference: str | None = None
    """The aligned model to measure drift against; null: the weights that the run starts from."""
    dataset_split: str = "train"
    """The split to train on, where the data set has several."""
    eval_dataset: str | None = None
    """Rows to evaluate on, in the same forms as `dataset`."""
    eval_split: str = "test"
    """The split to evaluate on, where that data set has several."""
    render: Literal["chat", "raw"] = "chat"
    """`chat` renders string prompt/completion rows with the chat template where there is one; `raw` never does."""
    on_empty_rows: Literal["error", "drop"] = "error"
    """What to do with rows that have no supervised token within max_length."""
    lora: dict | None = field(default_factory=dict)
    """Any field of LoraConfig; null trains all parameters."""
    quantize: Literal["4bit"] | None = None
    """`4bit` trains a LoRA on NF4 weights (QLoRA); needs bitsandbytes and a GPU."""
    safeguards: list[dict] = field(default_factory=list)
    """A list of mappings: `name`, `strength`, and the method's own settings; see `moored safeguards`."""
    drift: DriftConfig | None = None
    trl: Mapping[str, Any] = field(default_factory=dict)
    """The settings for SFTConfig, as the file states them."""


_TRL_SCRIPT_NAMES = {
    "model_name_or_path": "model",
    "dataset_name": "dataset",
    "dataset_train_split": "dataset_split",
    "dataset_test_split": "eval_split",
    "use_peft": "lora (on by default; lora: null trains all parameters)",
    "load_in_4bit": "quantize: 4bit",
    "dtype": "model_init_kwargs: {dtype: …}",
    "torch_dtype": "model_init_kwargs: {dtype: …}",
    "attn_implementation": "model_init_kwargs: {attn_implementation: …}",
    **{
        f"lora_{name}": f"lora: {{{name}: …}}"
        for name in ("r", "target_modules", "modules_to_save", "dropout", "alpha")
    },
}
"""The names that `trl sft` has for some of our keys."""


def read_config(file: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a YAML file and applies `key=value` overrides; a dotted key reaches into a mapping (`lora.r=8`).

    Raises:
        InputError: broken YAML (with its line), an unknown key (names the nearest known one), a value of another
            type, or a key that is missing.
    """
    text = read_text(file)
    with blaming(file):
        values = _parsed(text)
    for override in overrides:
        with blaming(f"--set {override}"):
            _override(values, override)
    with blaming(file):
        return _checked(values)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader lets the last of two equal keys win silently; YAML forbids them, and so does this one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, each key given once."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _parsed(text: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1} " if mark else "the file "
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise InputError(f"{line}is not valid YAML ({problem}); correct it.") from None
    if not isinstance(values, dict):
        raise InputError("the settings must be `key: value` pairs; write one on each line.")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise InputError("an override must be key=value.")
    *parents, key = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"{parent} holds no settings of its own; leave the dot out.")
    values[key] = _parsed(f"value: {text}")["value"]


def _checked(values: dict[str, Any]) -> TrainConfig:
    for key in values:
        if key in _TRL_SCRIPT_NAMES:
            raise InputError(f"the key {key} is called {_TRL_SCRIPT_NAMES[key]} here; rename it.")
    ours = {each.name for each in fields(TrainConfig)} - {"trl"}
    require_known(values, ours | sft_fields())
    for key in ("model", "dataset", "output_dir"):
        if values.get(key) is None:
            raise InputError(f"{key} is missing; add a line `{key}: …`.")
    if isinstance(values.get("drift"), bool):
        values["drift"] = {} if values["drift"] else None
    drift = values.get("drift")
    if isinstance(drift, dict):
        with blaming("drift"):
            values["drift"] = DriftConfig(**typed(drift, DriftConfig))
    stated = typed({key: value for key, value in values.items() if key in ours}, TrainConfig)
    return TrainConfig(**stated, trl={key: value for key, value in values.items() if key in sft_fields()})
