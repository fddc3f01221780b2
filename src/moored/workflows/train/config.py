"""The configuration of `moored train`: TRL's settings and ours side by side in one flat YAML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from moored.errors import InputError
from moored.files import read_text
from moored.huggingface.training.arguments import sft_fields
from moored.settings import require_known, typed
from moored.workflows.inputs.prompt_sets import EMBEDDED


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """What `SafetyDrift` probes."""

    prompts: str = EMBEDDED
    """Harmful requests: `embedded`, a file with a column `prompt`, or a Hub id."""
    ordinary: str = EMBEDDED
    """Everyday instructions, likewise."""
    limit: int = 32
    """At most so many of each."""
    stop: float | None = None
    """Stops once the refusal log-odds lie this many nats below the start; null never stops."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Our keys; every other key is one of SFTConfig's and goes to TRL as it is."""

    model: str
    """A folder, a Hub id, `embedded:base` or `embedded:aligned`."""
    dataset: str
    """A JSONL, JSON, Parquet or CSV file, a folder that `datasets` saved, or a Hub id."""
    output_dir: str
    adapter: str | None = None
    """A PEFT folder laid over the model before the run."""
    reference: str | None = None
    """The aligned model that drift and safeguards are taken against; null: the weights that the run starts from."""
    dataset_split: str = "train"
    eval_dataset: str | None = None
    eval_split: str = "test"
    render: Literal["chat", "raw"] = "chat"
    """`chat` renders string prompt/completion rows with the chat template where there is one; `raw` never does."""
    on_empty_rows: Literal["error", "drop"] = "error"
    """What to do with rows that have no supervised token within max_length."""
    lora: dict | None = field(default_factory=dict)
    """Any field of LoraConfig; null trains all parameters."""
    quantize: Literal["4bit"] | None = None
    safeguards: list[dict] = field(default_factory=list)
    """One mapping each: `name`, `strength`, and the method's own settings."""
    drift: DriftConfig | None = None
    trl: Mapping[str, Any] = field(default_factory=dict)
    """SFTConfig's settings, as stated."""


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
"""What `trl sft` calls some of our keys."""


def read_config(file: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a YAML file and lays `key=value` pairs over it; a dotted key reaches into a mapping (`lora.r=8`).

    Raises:
        InputError: broken YAML (with its line), an unknown key (names the nearest known one), a value of another
            type, or a key that is missing.
    """
    values = _parsed(read_text(file), str(file))
    for override in overrides:
        _lay_over(values, override)
    return _checked(values, str(file))


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


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", error)).split())
        raise InputError(f"{where}{line} is not valid YAML ({problem}).") from None
    if not isinstance(values, dict):
        raise InputError(f"{where} is no mapping of settings; write one `key: value` a line.")
    return values


def _lay_over(values: dict[str, Any], override: str) -> None:
    path, sign, text = override.partition("=")
    if not sign or not path:
        raise InputError(f"--set {override} is not key=value.")
    *parents, key = path.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"--set {override}: {parent} is no mapping.")
    values[key] = _parsed(f"value: {text}", f"--set {override}")["value"]


def _checked(values: dict[str, Any], where: str) -> TrainConfig:
    for key in values:
        if key in _TRL_SCRIPT_NAMES:
            raise InputError(f"{where} has the key {key}, which is called {_TRL_SCRIPT_NAMES[key]} here.")
    ours = {each.name for each in fields(TrainConfig)} - {"trl"}
    require_known(values, ours | sft_fields(), where)
    for key in ("model", "dataset", "output_dir"):
        if values.get(key) is None:
            raise InputError(f"{where} does not say {key}; add a line `{key}: …`.")
    if isinstance(values.get("drift"), bool):
        values["drift"] = {} if values["drift"] else None
    drift = values.get("drift")
    if isinstance(drift, dict):
        values["drift"] = DriftConfig(**typed(drift, DriftConfig, f"{where}: drift"))
    stated = typed({key: value for key, value in values.items() if key in ours}, TrainConfig, where)
    return TrainConfig(**stated, trl={key: value for key, value in values.items() if key in sft_fields()})
