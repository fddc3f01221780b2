"""Datasets as the package `datasets` keeps them: on the Hub, or in a folder that it saved."""

from pathlib import Path

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub import is_offline_mode
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled

from moored.errors import InputError, first_line


def read_dataset(folder_or_hub_id: str | Path, *, split: str) -> Dataset:
    """A folder that `Dataset.save_to_disk` wrote, or a dataset on the Hub; memory mapped.

    Args:
        folder_or_hub_id: an existing folder, or else a name on the Hub.
        split: which split, where there are several.

    Raises:
        InputError: it cannot be read, or has no such split.
    """
    folder = Path(folder_or_hub_id)
    if not folder.is_dir():
        return _read_hub(str(folder_or_hub_id), split)
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise InputError(
            f"{folder} is a folder where a data file is expected; name a file inside it, or a folder of `datasets`."
        )
    try:
        rows = load_from_disk(folder)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"{folder} cannot be read as `datasets` saves it ({first_line(error)}).") from error
    if not isinstance(rows, DatasetDict):
        return rows
    if split not in rows:
        raise InputError(f"{folder} has no split {split}; its splits are {', '.join(map(str, rows))}.")
    return rows[split]


def _read_hub(name: str, split: str) -> Dataset:
    try:
        rows = load_dataset(name, split=split)
    except (DatasetNotFoundError, DatasetGenerationError, HFValidationError, OfflineModeIsEnabled) as error:
        raise InputError(_no_dataset(name, error)) from error
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        raise InputError(_no_dataset(name, error)) from error
    assert isinstance(rows, Dataset)
    return rows


def _no_dataset(name: str, error: Exception) -> str:
    advice = "HF_HUB_OFFLINE=1 forbids a download" if is_offline_mode() else "check the name"
    return f"{name} is neither a file here nor a dataset that can be loaded ({first_line(error)}); {advice}."
