"""Checkpoints that are known to be complete, and one sentence where they cannot be written.

The Trainer writes a checkpoint file by file into its final place, so a killed run leaves one that looks finished.
Ours gets a marker, written last, that lists every file and its size.
"""

import errno
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from moored.errors import InputError
from moored.files import read_text, sha256_of, write_json

if TYPE_CHECKING:
    from moored.huggingface.safeguards.interface import Safeguard

MARKER = "moored_complete.json"
_SAFEGUARDS = "moored_safeguards.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def mark_complete(folder: Path) -> None:
    """Marks a checkpoint whose files are all written."""
    files = {str(file.relative_to(folder)): file.stat().st_size for file in _files(folder)}
    write_json(folder / MARKER, {"files": files})


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != MARKER)


def is_complete(folder: Path) -> bool:
    """Whether a checkpoint has its marker and every file that the marker lists, with its size."""
    try:
        files: dict[str, int] = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def newest_complete(output_dir: Path | str) -> Path | None:
    """Returns the complete checkpoint of the highest step in a run folder, or None."""
    output_dir = Path(output_dir)
    if not output_dir.is_dir():
        return None
    steps = {int(match[1]): path for path in output_dir.iterdir() if (match := _NAME.fullmatch(path.name))}
    return next((steps[step] for step in sorted(steps, reverse=True) if is_complete(steps[step])), None)


def write_safeguards(folder: Path, safeguards: Sequence["Safeguard"]) -> None:
    """Records the run's safeguards in a checkpoint."""
    write_json(folder / _SAFEGUARDS, _described(safeguards))


def check_safeguards(folder: Path, safeguards: Sequence["Safeguard"]) -> None:
    """Raises InputError where a run resumes a checkpoint that was made with other safeguards, or with unknown ones."""
    file = folder / _SAFEGUARDS
    if not file.is_file():
        return
    try:
        before = json.loads(read_text(file))
    except ValueError as error:
        raise InputError(f"{file} is damaged ({error}); resume from another checkpoint, or start again.") from None
    if before != _described(safeguards):
        raise InputError(
            f"{folder} was made with other safeguards or strengths; resume with the same, or start in another folder."
        )


def _described(safeguards: Sequence["Safeguard"]) -> dict[str, Any]:
    """The settings of each safeguard, by name; they have no other state to restore."""
    return {safeguard.name: f"{safeguard!r}{_unshown(safeguard)}" for safeguard in safeguards}


def _unshown(safeguard: Any) -> str:
    """A digest of what the settings do not show: long ones, such as examples, and the content of files."""
    settings = [field for field in fields(safeguard) if field.init] if is_dataclass(safeguard) else []
    unshown = [repr(getattr(safeguard, field.name)) for field in settings if not field.repr]
    shown = [getattr(safeguard, field.name) for field in settings if field.repr]
    unshown += [sha256_of(Path(value)) for value in shown if isinstance(value, str) and Path(value).is_file()]
    return f" {hashlib.sha256(''.join(unshown).encode()).hexdigest()[:16]}" if unshown else ""


_PLACE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EFBIG}


@contextmanager
def as_user_error(out: Path) -> Iterator[None]:
    """Makes `out` and turns a failure to write there into InputError; a failure removes `out` if it is still empty.

    A missing package that a setting needs becomes InputError as well: some are imported only once a run begins.
    """
    fresh = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(_sentence(out, error.strerror or str(error))) from error
    try:
        yield
    except ImportError as error:
        raise InputError(_missing(error)) from error
    except OSError as error:
        if error.errno not in _PLACE_ERRORS:
            raise
        raise InputError(_sentence(out, error.strerror or str(error))) from error
    except SafetensorError as error:
        if "os error" not in str(error):
            raise
        raise InputError(_sentence(out, str(error))) from error
    except RuntimeError as error:
        if "to be installed" in str(error):
            raise InputError(_missing(error)) from error
        # torch.save raises a plain RuntimeError where the disk is full.
        if not any(words in str(error) for words in ("PytorchStreamWriter", "iostream error")):
            raise
        raise InputError(_sentence(out, "the disk is full")) from error
    finally:
        if fresh and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _missing(error: Exception) -> str:
    reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")
    return f"A setting of this run needs a package that is not installed: {reason}."


def _sentence(out: Path, reason: str) -> str:
    return f"Cannot write to {out}: {reason}; free some space or name another folder, then resume with --resume."
