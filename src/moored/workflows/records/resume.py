"""The check that a run to be resumed is the run that its folder holds."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moored.errors import InputError
from moored.huggingface.training import newest_complete
from moored.report.reading.record import read_record
from moored.report.reading.train import TrainReport

_SAME: dict[str, Callable[[TrainReport], object]] = {
    "learned from other data or another rendering": lambda report: report.data.tokens_sha256,
    "started from other weights": lambda report: report.model.weights_sha256,
}
"""What cannot change while a run is continued, with the words for a change of it."""

_LENGTH = ("max_steps", "num_train_epochs")
_MAY_CHANGE = {
    *_LENGTH,
    *("output_dir", "model", "adapter", "dataset", "dataset_split", "resume_from_checkpoint"),
    *("drift", "eval_dataset", "eval_split", "per_device_eval_batch_size", "eval_accumulation_steps"),
    *("logging_strategy", "logging_first_step", "log_level", "report_to", "run_name", "disable_tqdm"),
    *("save_strategy", "save_total_limit", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo"),
    *("dataloader_num_workers", "dataloader_pin_memory"),
}
"""The settings that may change when a run is resumed: its length, names of what is compared by hash, and what is
measured, logged and kept. The checkpoint wins where it holds a setting itself (`save_steps` and the like)."""


def require_same_run(out: Path, report: TrainReport) -> None:
    """Raises InputError when the run that `out` holds is another one than `report` describes."""
    if not (out / TrainReport.file).is_file():
        return
    before = read_record(TrainReport, out)
    if not before.finished and newest_complete(out) is None:
        return  # There is no checkpoint to continue from, so the run starts over.
    changes = [words for words, value in _SAME.items() if value(before) != value(report)]
    changes += _other_settings(before.config, report.to_dict()["config"])
    if changes:
        raise InputError(f"The run in {out} {changes[0]}; resume it with the same, or name another folder.")


def finished_run(out: Path, report: TrainReport) -> TrainReport | None:
    """Reads the record of a run that has ended, if `report` asks for no other length: there is nothing to resume."""
    if not (out / TrainReport.file).is_file():
        return None
    before, config = read_record(TrainReport, out), report.to_dict()["config"]
    is_over = before.finished and all(_value(before.config, key) == _value(config, key) for key in _LENGTH)
    return before if is_over else None


def _other_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"trained with another setting of {key} ({_value(before, key)} then, {_value(now, key)} now)"
        for key in {**before, **now}
        if key not in _MAY_CHANGE and _value(before, key) != _value(now, key)
    ]


def _value(config: Mapping[str, Any], key: str) -> str:
    return json.dumps(config[key], sort_keys=True) if key in config else "not set"
