"""The runs of a trial: each trains and measures one model and leaves one small file; finished ones are skipped."""

import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from _trial_measure import Measure
from _trial_training import Plan, fine_tune
from moored.files import write_json
from moored.workflows._models import resolve_model
from moored.workflows._provenance import command_line, now, versions

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model of a grid."""

    name: str
    """Of its file, and of its folder while it is made; a slash makes folders."""
    about: Row
    """What stands in the file beside what was found, `arm` and `seed` among it."""
    config: Mapping[str, Any]
    """The training file, but for its places."""
    rows: Callable[[], list[Row]]
    """Makes what is trained on."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the runs of one call have in common. Several calls may share the work: a run is of the first to take it."""

    out: Path
    """Gets a file of each run in `arms`."""
    work: Path
    """Holds a folder for each run while it is made."""
    plan: Plan
    measure: Measure
    key: str
    """What a finished run must share with this call to stand in the same table."""
    threads: int
    keep: bool = True
    """Whether adapters stay where they were trained."""

    def finished(self, name: str) -> bool:
        """Whether a run's file is there, and of this key."""
        file = self._file(name)
        return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["key"] == self.key

    def complete(self, runs: Sequence[Run]) -> None:
        """Measures the models that all others are compared with, and makes the runs that are missing, in order."""
        missing = [run for run in runs if not self.finished(run.name)]
        print(f"{len(missing)} of {len(runs)} runs are missing{self._usual(runs)}.", flush=True)
        for name, source in self.measure.references().items():
            self.once(name, lambda name=name, source=source: {"arm": name, **self.measure(source, name)})
        for run in missing:
            self.once(run.name, lambda run=run: self._made(run))

    def once(self, name: str, make: Callable[[], Row]) -> None:
        """Writes what `make` returns, unless it is there already or another call is at it."""
        lock = self.work / f"{name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(lock, timeout=0):
                if not self.finished(name):
                    write_json(self._file(name), {**self._about(), **make()})
        except Timeout:
            print(f"{name} is being made by another call.", flush=True)

    def _file(self, name: str) -> Path:
        return self.out / "arms" / f"{name}.json"

    def _about(self) -> Row:
        made = {"command": command_line(), "created": now(), "versions": versions(), "threads": self.threads}
        return {**made, "plan": asdict(self.plan), "key": self.key}

    def _usual(self, runs: Sequence[Run]) -> str:
        """How long a run took so far."""
        took = [
            sum(json.loads(self._file(run.name).read_text(encoding="utf-8"))["seconds"].values())
            for run in runs
            if self.finished(run.name)
        ]
        return f"; those that are there took {statistics.median(took):.0f} s each" if took else ""

    def _made(self, run: Run) -> Row:
        folder = self.work / run.name
        started = time.perf_counter()
        record = fine_tune(run.config, run.rows(), folder)
        trained = time.perf_counter()
        tuned = resolve_model("embedded:base", folder / "tuned")
        found = self.measure(tuned, run.name)
        seconds = {"train": round(trained - started, 1), "measure": round(time.perf_counter() - trained, 1)}
        training = {key: record[key] for key in ("train_loss", "steps", "safeguards")}
        training["tokens_sha256"] = record["data"]["tokens_sha256"]
        training |= _log(folder / "tuned")
        if not self.keep:
            shutil.rmtree(folder)
        return {**run.about, "seconds": seconds, "training": training, **found}


def key_of(*shared: Any) -> str:
    """A hash of what runs must share."""
    return hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:16]


def _log(tuned: Path) -> dict[str, dict[str, list[float]]]:
    """What the Trainer logged at each step, by name; it is kept where the run's end was saved as a checkpoint."""
    states = sorted(tuned.glob("checkpoint-*/trainer_state.json"))
    if not states:
        return {}
    steps = [row for row in json.loads(states[-1].read_text(encoding="utf-8"))["log_history"] if "loss" in row]
    names = [name for name in steps[0] if name in ("loss", "grad_norm") or name.startswith("safety/")]
    return {"log": {name: [float(f"{row[name]:.5g}") for row in steps] for name in names}}
