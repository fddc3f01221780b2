"""The runs of a trial: each makes and measures one model and leaves one small record; finished ones are skipped."""

import gc
import hashlib
import json
import shutil
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks.compact_files import ARMS, read_arms, write_arms
from benchmarks.origin import code
from benchmarks.trials.measure import Measure
from benchmarks.trials.training import Plan
from moored.files import write_json
from moored.huggingface.models import ModelSource, bf16_is_native
from moored.workflows.records.provenance import command_line, now, versions

Row = dict[str, Any]
RECORDS = "finished"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model of a grid."""

    name: str
    """Names its record, and its folder while it is made; a slash makes folders."""
    about: Row
    """What the record says beside what was measured, `arm` and `seed` among it."""
    make: Callable[[Path], tuple[ModelSource, Row]]
    """Makes the model in a folder, and returns what else the record says."""
    measure: Measure | None = None
    """In place of the trial's."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the runs of one call have in common. Several calls may share the work: a run is of the first to take it."""

    out: Path
    """Holds `arms.jsonl`, the runs that were gathered."""
    work: Path
    """Holds a folder for each run while it is made, and a record of each that is finished but not gathered yet."""
    plan: Plan
    measure: Measure
    key: str
    """What a finished run must share with this call to stand in the same table."""
    threads: int
    keep: bool = True
    """Whether adapters stay where they were trained."""

    def finished(self, name: str, about: Row | None = None) -> bool:
        """Whether a run was made, with this key and with this about it."""
        return self._is_made(self.known().get(name), about)

    def known(self) -> dict[str, Row]:
        """The runs that were made, by name, gathered or not."""
        with self._lock():
            return self._known()

    def gather(self) -> None:
        """Moves the records of finished runs into `arms.jsonl`."""
        with self._lock():
            if records := self._records():
                write_arms(self.out, self._known())
            for file in records.values():
                file.unlink()

    def complete(self, runs: Sequence[Run]) -> None:
        """Measures the models that all others are compared with, and makes the runs that are missing, in order.

        Raises:
            RuntimeError: at the end, naming the runs that failed.
        """
        known = self.known()
        made = {run.name for run in runs if self._is_made(known.get(run.name), run.about)}
        missing = [run for run in runs if run.name not in made]
        usual = _usual([known[name] for name in made])
        print(f"{len(missing)} of {len(runs)} runs are missing{usual}.", flush=True)
        for name, source in self.measure.references().items():
            self.once(name, lambda name=name, source=source: {"arm": name, **self.measure(source, name)})
        failed = [run.name for run in missing if not self._tried(run)]
        if failed:
            raise RuntimeError(f"{len(failed)} runs failed: {', '.join(failed)}.")

    def _tried(self, run: Run) -> bool:
        """One arm that fails shall not cost a night's others."""
        try:
            self.once(run.name, lambda: self._made(run), run.about)
        except Exception:
            traceback.print_exc()
            return False
        return True

    def once(self, name: str, make: Callable[[], Row], about: Row | None = None) -> None:
        """Writes what `make` returns, unless it is there already or another call is at it."""
        lock = self.work / f"{name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=0):
                if not self.finished(name, about):
                    write_json(self._record(name), {**self._about(), **make()})
        except Timeout:
            print(f"{name} is being made by another call.", flush=True)

    def _is_made(self, found: Row | None, about: Row | None) -> bool:
        return found is not None and {**found, **_as_read(about or {}), "key": self.key} == found

    def _lock(self) -> FileLock:
        """A lock against calls that gather meanwhile."""
        self.work.mkdir(parents=True, exist_ok=True)
        return FileLock(self.work / f"{ARMS}.lock")

    def _known(self) -> dict[str, Row]:
        records = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in self._records().items()}
        return {**read_arms(self.out), **records}

    def _records(self) -> dict[str, Path]:
        folder = self.work / RECORDS
        return {file.relative_to(folder).as_posix().removesuffix(".json"): file for file in folder.rglob("*.json")}

    def _record(self, name: str) -> Path:
        return self.work / RECORDS / f"{name}.json"

    def _about(self) -> Row:
        made = {"command": command_line(), "created": now(), "versions": versions(), "threads": self.threads}
        made["precision"] = "bf16" if bf16_is_native() else "fp32"
        return {**made, "code": code(), "plan": asdict(self.plan), "key": self.key}

    def _made(self, run: Run) -> Row:
        folder = self.work / run.name
        started = time.perf_counter()
        source, made = run.make(folder)
        trained = time.perf_counter()
        gc.collect()  # A trainer is part of cycles, which would keep its model for several runs.
        found = (run.measure or self.measure)(source, run.name)
        seconds = {"train": round(trained - started, 1), "measure": round(time.perf_counter() - trained, 1)}
        if not self.keep:
            shutil.rmtree(folder)
        return {**run.about, "seconds": seconds, **made, **found}


def _usual(runs: Sequence[Row]) -> str:
    """How long a run took so far, in words."""
    took = [sum(run["seconds"].values()) for run in runs]
    return f"; those that are there took {statistics.median(took):.0f} s each" if took else ""


def _as_read(about: Row) -> Row:
    """As it comes back from a file."""
    return json.loads(json.dumps(about))


def key_of(*shared: Any) -> str:
    """A hash of what runs must share."""
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:16]
