"""Whether a run that is to be resumed is the one that its folder holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from moored.errors import InputError
from moored.huggingface.training import newest_complete

_SAME: dict[str, Callable[[dict[str, Any]], Any]] = {
    "learned from other data or another rendering": lambda record: record["data"]["tokens_sha256"],
    "started from other weights": lambda record: record["model"]["weights_sha256"],
}
"""What cannot change while a run goes on, by how it is told."""

_MAY_CHANGE = {
    *("max_steps", "num_train_epochs"),
    *("output_dir", "model", "adapter", "dataset", "dataset_split", "resume_from_checkpoint"),
    *("drift", "eval_dataset", "eval_split", "per_device_eval_batch_size", "eval_accumulation_steps"),
    *("logging_strategy", "logging_first_step", "log_level", "report_to", "run_name", "disable_tqdm"),
    *("save_strategy", "save_total_limit", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"),
    *("dataloader_num_workers", "dataloader_pin_memory"),
}
"""Settings that take effect in a resumed run too: its length, names of what is compared by hash, what is measured, told
and kept. The checkpoint's state goes before all others that it holds, `save_steps` and its like among them."""


def require_same_run(out: Path, file: Path, record: dict[str, Any]) -> None:
    """Raises InputError when the run in `out`, recorded in `file`, is another one than `record` describes."""
    if not file.is_file():
        return
    before = json.loads(file.read_text(encoding="utf-8"))
    if not before["finished"] and newest_complete(out) is None:
        return  # There is nothing to go on from, so the run starts over.
    told = [how for how, of in _SAME.items() if of(before) != of(record)]
    told += _other_settings(before["config"], json.loads(json.dumps(record["config"])))
    if told:
        raise InputError(f"The run in {out} {told[0]}; resume it with the same, or name another folder.")


def _other_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [
        f"trained with another setting of {key} ({_value(before, key)} then, {_value(now, key)} now)"
        for key in {**before, **now}
        if key not in _MAY_CHANGE and _value(before, key) != _value(now, key)
    ]


def _value(config: dict[str, Any], key: str) -> str:
    return json.dumps(config[key], sort_keys=True) if key in config else "not set"
