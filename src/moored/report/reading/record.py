"""What every report is: a typed record that is read and written in one place."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from moored.errors import InputError
from moored.files import read_jsonl, read_text, whole_folder, write_json
from moored.outputs import OwnOutput
from moored.report.reading.shown_text import visible

SCHEMA = 2
Kind = TypeVar("Kind", bound="Report")
Parsed = TypeVar("Parsed", bound="Record")


class Record:
    """The base of reports and of the records inside them: no number is NaN or infinite, unknown keys are left alone."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False, extra="ignore")


@dataclass(frozen=True, kw_only=True)
class ModelRecord(Record):
    """The model that was looked at."""

    name: str
    """The name as the user wrote it."""
    path: str
    adapter: str | None = None
    weights_sha256: str | None = None

    def __str__(self) -> str:
        return self.name if self.adapter is None else f"{self.name} + {self.adapter}"


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """What one command found; `report.json` holds its fields, and what made them."""

    kind: ClassVar[str]
    """The command's name."""
    file: ClassVar[str] = "report.json"
    """The name of the file in the command's output folder."""

    created: str
    """The time of writing in UTC, ISO 8601."""
    command: str
    versions: Mapping[str, str]
    seconds: float | None = None

    def rows(self) -> list[dict[str, Any]]:
        """The main table, one dictionary a row, as `pandas.DataFrame` takes it."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The content of `report.json`."""
        values = _adapter(type(self)).dump_python(self, mode="json", exclude=set(self.beside))
        return {"schema": SCHEMA, "kind": self.kind, **values}

    beside: ClassVar[Sequence[str]] = ()
    """The fields that are written to files of their own, by `write_beside`."""
    files_beside: ClassVar[Sequence[str]] = ("index.html",)
    """The names of the files that are written besides the report's own."""

    @classmethod
    def own_output(cls) -> OwnOutput:
        """Tells an earlier output of the same command, which may be replaced, from any other folder."""
        return OwnOutput(record=cls.file, kind=cls.kind, files=tuple(cls.files_beside))

    def write_beside(self, folder: Path) -> None:
        """Writes what does not stand in `report.json` into the report's folder."""

    def write(self, folder: Path) -> None:
        """Writes all files of the report, and its page, into a folder that is there."""
        write_json(folder / self.file, self.to_dict())
        self.write_beside(folder)
        if type(self) in _PAGES:
            _PAGES[type(self)](folder)

    def save(self, folder: Path | str, *, overwrite: bool = False) -> Path:
        """Writes the report folder, whole or not at all.

        Args:
            folder: where it is written; must be empty or absent unless `overwrite`.
            overwrite: whether what is there may be replaced.

        Returns:
            The folder.

        Raises:
            InputError: the folder is in use or cannot be written.
        """
        with whole_folder(folder, overwrite=overwrite, own=self.own_output()) as temporary:
            self.write(temporary)
        return Path(folder)

    def _repr_html_(self) -> str:
        """The main table, as a notebook shows it."""
        rows = self.rows()
        if not rows:
            return "<p>nothing was measured</p>"
        head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
        body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row.values())}</tr>" for row in rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape(visible(f"{value:.4g}" if isinstance(value, float) else str(value)))


_PAGES: dict[type[Report], Callable[[Path], Path]] = {}


def page_of(kind: type[Report]) -> Callable[[Callable[[Path], Path]], Callable[[Path], Path]]:
    """Registers the function that draws `index.html` from the folder of a kind of report."""

    def register(draw: Callable[[Path], Path]) -> Callable[[Path], Path]:
        _PAGES[kind] = draw
        return draw

    return register


def redraw(folder: Path | str) -> Path:
    """Writes the page of a report again from the files beside it; no number changes.

    Returns:
        The file that was written.

    Raises:
        InputError: the folder holds no report, a broken one, or one of a command that draws no page.
    """
    path = Path(folder) / Report.file
    found = _object(path).get("kind")
    drawn = {kind.kind: draw for kind, draw in _PAGES.items()}
    if not isinstance(found, str) or found not in drawn:
        raise InputError(f"{path} is a report of kind {found!r}, which has no page; name one of {', '.join(drawn)}.")
    return drawn[found](Path(folder))


def read_record(kind: type[Kind], folder: Path | str) -> Kind:
    """Reads a report from its folder.

    Raises:
        InputError: the file is missing, is not JSON, is another command's, was written by a newer moored, or holds a
            value that the field cannot hold; the sentence names the file and the field.
    """
    path = Path(folder) / kind.file
    values = _object(path)
    schema, found = values.get("schema"), values.get("kind")
    if found != kind.kind:
        raise InputError(f"{path} is a report of kind {found!r}, not of {kind.kind}; name another folder.")
    if not isinstance(schema, int) or schema > SCHEMA:
        raise InputError(f"{path} has the schema {schema!r} and this moored reads {SCHEMA}; update moored.")
    try:
        return record_of(kind, values)
    except ValidationError as error:
        raise InputError(f"{path}: {complaint(error)}; run moored {kind.kind} again.") from None


def read_lines(kind: type[Parsed], path: Path) -> list[Parsed]:
    """Reads a JSONL file that holds one record a line.

    Raises:
        InputError: the file is missing or is not JSONL, or a line holds a value that the field cannot hold.
    """
    try:
        return _adapter(list[kind]).validate_python(read_jsonl(path))
    except ValidationError as error:
        raise InputError(f"{path}: {complaint(error)}; run the command that wrote it again.") from None


def record_of(kind: type[Parsed], values: Mapping[str, Any]) -> Parsed:
    """Makes a record of plain values, as JSON holds them; raises pydantic's ValidationError for others."""
    return _adapter(kind).validate_python(values)


def _object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}); run the command that wrote it again.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} is no report, since it holds no JSON object; name another folder.")
    return values


def complaint(error: ValidationError) -> str:
    """The first thing that is wrong, with the address of the value."""
    first = error.errors()[0]
    address = ".".join(str(part) for part in first["loc"])
    return f"`{address}` is {visible(repr(first['input']))[:40]} ({first['msg']})"


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)
