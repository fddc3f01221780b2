"""Typed reading of a measure report: `report.json` in, dataclasses or one sentence out."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from moored.errors import InputError
from moored.files import read_text

SCHEMA = 1
SETS = ("harmful", "harmless", "ordinary", "task")
RATES = ("asr", "over_refusal", "ordinary_refusal", "incoherent", "empty", "utility")
DRIFTS = ("refusal_log_odds", "kl_harmful", "kl_ordinary")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One measured number with its uncertainty; a mean over a single prompt has no interval."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model and what was measured on it; a measure that was not taken has no key in `estimates`."""

    model: str
    adapter: str | None
    weights_sha256: str | None
    estimates: Mapping[str, Estimate]
    answers: Path | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference, this model minus the other, in the measure's own unit."""

    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    smallest_detectable: float | None


@dataclass(frozen=True, kw_only=True)
class Against:
    """The model that a report was compared with, and what came of it."""

    measured: Measured
    comparison: Mapping[str, Difference]
    verdict: str
    next_command: str | None


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Which prompts were asked; equal hashes mean equal rendered text."""

    n: int
    rendered_sha256: str
    source: str | None


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole `report.json`."""

    folder: Path
    created: str
    command: str
    versions: Mapping[str, str]
    seconds: float | None
    judge: str
    judge_version: str | None
    seeds: str | None
    prompts: Mapping[str, PromptSet]
    measured: Measured
    against: Against | None


def read_report(folder: Path | str) -> Report:
    """Reads `folder/report.json`.

    Raises:
        InputError: the file is missing, is not JSON, was written by a newer moored, or holds a value that is
            not what the schema says; the sentence names the file and the field.
    """
    folder = Path(folder)
    path = folder / "report.json"
    root = _Node(_parse(path), path)
    _check_kind(root, path)
    judge = root.child("judge")
    return Report(
        folder=folder,
        created=root.child("created").text(),
        command=root.child("command").text(),
        versions={name: node.text() for name, node in root.child("versions").items() if not node.absent},
        seconds=root.child("seconds").number_or_none(low=0.0),
        judge=judge.child("name").text(),
        judge_version=judge.child("version").text_or_none(),
        seeds=_seeds(root),
        prompts=_prompts(root.child("prompts")),
        measured=_measured(root, folder),
        against=None if (against := root.child("against")).absent else _against(against, folder),
    )


def _parse(path: Path) -> object:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno} is not valid JSON ({error.msg}); measure again.") from None


def _check_kind(root: "_Node", path: Path) -> None:
    schema = root.child("schema").count()
    if schema > SCHEMA:
        raise InputError(
            f"{path} was written by a newer moored (schema {schema}, this one reads {SCHEMA}); update moored."
        )
    kind = root.child("kind").text()
    if kind != "measure":
        raise InputError(f"{path} is a report of kind {kind!r}, not of a measure; name a folder that measure wrote.")


def _seeds(root: "_Node") -> str | None:
    node = root.child("seeds")
    if node.absent:
        node = root.child("seed")
    return None if node.absent else json.dumps(node.value, sort_keys=True)


def _prompts(node: "_Node") -> dict[str, PromptSet]:
    return {
        name: PromptSet(
            n=given.child("n").count(),
            rendered_sha256=given.child("rendered_sha256").text(),
            source=given.child("source").text_or_none(),
        )
        for name in SETS
        if not (given := node.child(name)).absent
    }


def _measured(node: "_Node", folder: Path) -> Measured:
    model = node.child("model")
    drift = node.child("drift")
    found = {name: _rate(node.child(name)) for name in RATES}
    found |= {name: _mean(drift.child(name)) for name in DRIFTS if not drift.absent}
    return Measured(
        model=model.child("name").text(),
        adapter=model.child("adapter").text_or_none(),
        weights_sha256=model.child("weights_sha256").text_or_none(),
        estimates={name: estimate for name, estimate in found.items() if estimate is not None},
        answers=_inside(node.child("answers"), folder),
    )


def _rate(node: "_Node") -> Estimate | None:
    """A share of n prompts; a share of no prompts is a share that was not measured."""
    if node.absent or (n := node.child("n").count()) == 0:
        return None
    value, low, high = (node.child(name).number(low=0.0, high=1.0) for name in ("rate", "low", "high"))
    return Estimate(value=value, low=low, high=high, n=n)


def _mean(node: "_Node") -> Estimate | None:
    if node.absent or (n := node.child("n").count()) == 0:
        return None
    low, high = (node.child(name).number_or_none() for name in ("low", "high"))
    return Estimate(value=node.child("mean").number(), low=low, high=high, n=n)


def _against(node: "_Node", folder: Path) -> Against:
    compared = node.child("comparison")
    return Against(
        measured=_measured(node, folder),
        comparison={
            name: _difference(child) for name, child in compared.items() if name in RATES + DRIFTS and not child.absent
        },
        verdict=node.child("verdict").text(),
        next_command=node.child("next").text_or_none(),
    )


def _difference(node: "_Node") -> Difference:
    return Difference(
        difference=node.child("difference").number(),
        low=node.child("low").number_or_none(),
        high=node.child("high").number_or_none(),
        p=node.child("p").number_or_none(low=0.0, high=1.0),
        n=node.child("n").count(),
        smallest_detectable=node.child("smallest_detectable").number_or_none(low=0.0),
    )


def _inside(node: "_Node", folder: Path) -> Path | None:
    """The file of answers; a report must not make its reader open files elsewhere."""
    if node.absent:
        return None
    name = Path(node.text())
    if name.is_absolute() or ".." in name.parts:
        node.fail("a file inside the report's own folder")
    return folder / name


class _Node:
    """A value of the file together with its address, so that every complaint can name the place."""

    def __init__(self, value: object, path: Path, address: str = "") -> None:
        self.value, self._path, self._address = value, path, address

    @property
    def absent(self) -> bool:
        return self.value is None

    def child(self, name: str) -> "_Node":
        if not isinstance(self.value, dict):
            self.fail("an object")
        return _Node(self.value.get(name), self._path, f"{self._address}.{name}".lstrip("."))

    def items(self) -> list[tuple[str, "_Node"]]:
        if self.absent:
            return []
        if not isinstance(self.value, dict):
            self.fail("an object")
        return [(name, self.child(name)) for name in self.value]

    def text(self) -> str:
        return self.value if isinstance(self.value, str) else self.fail("text")

    def text_or_none(self) -> str | None:
        return None if self.absent else self.text()

    def count(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            self.fail("a whole number of at least 0")
        return self.value

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail("a finite number")
        if not low <= value <= high:
            self.fail(f"a number from {low:g} to {high:g}")
        return float(value)

    def number_or_none(self, low: float = -math.inf, high: float = math.inf) -> float | None:
        return None if self.absent else self.number(low, high)

    def fail(self, expected: str) -> NoReturn:
        where = f"`{self._address}`" if self._address else "the whole file"
        found = "nothing" if self.absent else repr(self.value)[:40]
        raise InputError(f"{self._path}: {where} should be {expected}, found {found}; measure again.")
