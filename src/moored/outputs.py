"""What may be replaced by an output: an earlier one of the same command, and nothing that is read from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moored.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OwnOutput:
    """What a command writes into its folder, by which an earlier output of its own is known."""

    record: str
    """The JSON file that every output of the command holds."""
    kind: str
    """What that file says under `kind`."""
    files: tuple[str, ...] = ()
    """The names of further files. Where they depend on the input, the record lists them under `files` itself."""

    def require(self, folder: Path) -> None:
        """Raises InputError when a folder holds anything but an output of this command."""
        record = self._read(folder / self.record)
        if record.get("kind") != self.kind:
            raise InputError(
                f"{folder} holds no {self.record} that this command wrote, so it is not replaced; name another folder "
                "or empty it first."
            )
        own = {self.record, *self.files, *_names(record.get("files"))}
        foreign = next((each for each in sorted(folder.iterdir()) if each.name not in own), None)
        if foreign is not None:
            raise InputError(
                f"{folder} is not replaced, since it holds {foreign.name}, which this command did not write; move that "
                "away or name another folder."
            )

    def _read(self, file: Path) -> dict[str, Any]:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}


def _names(listed: Any) -> list[str]:
    return [each for each in listed if isinstance(each, str)] if isinstance(listed, list) else []


def keep_inputs(out: Path, *places: object) -> None:
    """Raises InputError when a file or folder that is read from lies in the folder that is to be replaced.

    Args:
        out: the folder.
        places: paths, None, or names that are no paths, such as Hub ids.
    """
    for place in map(str, filter(None, places)):
        if Path(place).exists() and Path(place).resolve().is_relative_to(Path(out).resolve()):
            raise InputError(f"{place} is read from, and {out} would be written over it; name another folder.")
