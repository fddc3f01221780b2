"""Variants of one computation: each probed in a process of its own, then all timed in turns against a limit.

Each variant first runs once alone: that gives its peak of memory, and what it finds, which is compared with what its
twin among ours finds. What fails there or finds something else is listed with its error and not timed. The others are
timed in turns in one process, in a new order each round; this process keeps the memory that it frees, for taking it
again from the system can take longer than what is timed. `ratio`, `ratio_low` and `ratio_high` are median and quartiles
of the rounds' own ratios to the limit. Finished cases lie in `--run`, and a call after an interruption goes on from
there unless settings, versions or code have changed.
"""

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.compact_files import write_table
from benchmarks.origin import code, used
from moored.files import whole_file, write_json
from moored.huggingface.quiet import quiet_libraries
from moored.workflows.records.provenance import command_line, now, versions

Row = dict[str, Any]
Run = Callable[[], tuple[float, Tensor | None]]
"""Runs a variant once: the seconds that count, and what it found, if that can be compared."""
_NO_SETTINGS = ("json", "run", "cases", "part")
"""The options that change nothing in what a case finds."""
_START = 10
"""Seconds that a process takes to load libraries and model."""
_MEMORY: Mapping[str, Mapping[str, str]] = {
    # A heap in pieces can take twice the memory that is in use, by chance; as maps, tensors are given back.
    "probe": {"MALLOC_MMAP_THRESHOLD_": "65536"},
    # Elsewise the system hands it out anew with each tensor, zeroed, and unevenly fast.
    "clock": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_ARENA_MAX": "1"},
}
"""How glibc's malloc is told to keep memory, see mallopt(3)."""


class Case(Protocol):
    """A computation and the ways to do it."""

    @property
    def variants(self) -> Sequence[str]:
        """`limit`, ours and the rivals."""
        ...

    @property
    def seconds(self) -> float:
        """Of a round with all variants on two cores, roughly: for the estimate that is printed first."""
        ...

    def load(self, options: argparse.Namespace) -> Any:
        """What the variants share."""
        ...

    def prepare(self, variant: str, shared: Any, options: argparse.Namespace) -> Run:
        """A variant, ready to run many times."""
        ...


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a script measures."""

    name: str
    """The script's in this package, and that of its folders in `results/` and in `runs/`."""
    about: str | None
    title: str
    aims: str
    cases: Mapping[str, Case]
    finds: str
    """What is compared, in the plural."""
    twin: Callable[[str], str]
    """The variant whose findings a variant must share; it may be its own."""
    tolerance: Callable[[argparse.Namespace], float]
    """How far they may be apart, relatively."""
    warm_up: Callable[[str], bool] = lambda variant: True
    """Whether a variant is run once before it is timed; one that takes minutes has warmed up within them."""
    preparation_counts: bool = False
    """Whether the memory that `prepare` takes is a variant's own, rather than the shared model's."""
    rivals: Sequence[str] = ()
    """Packages whose versions are told beside those of ours."""
    label: Callable[[str, argparse.Namespace], str] = lambda name, options: name
    """What a case is called in the table."""
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """More options, as argparse takes them."""


def timed(run: Callable[[], Tensor | None]) -> Run:
    """A run that counts as a whole."""

    def both() -> tuple[float, Tensor | None]:
        started = time.perf_counter()
        found = run()
        return time.perf_counter() - started, found

    return both


def probe(benchmark: Benchmark, case: Case, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """Runs one variant once: what it finds, and the most memory that this process held beyond the loaded model."""
    shared = case.load(options)
    try:
        before = psutil.Process().memory_info().rss
        run = case.prepare(variants[0], shared, options)
        if not benchmark.preparation_counts:
            before = psutil.Process().memory_info().rss
        _, found = run()
    except Exception as error:  # Whatever keeps a rival from running is a result.
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_mib": round((peak - before) / 2**20), "found": None if found is None else found.tolist()}


def clock(benchmark: Benchmark, case: Case, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """The seconds of each variant in each round, after a warm-up."""
    shared = case.load(options)
    runs = {variant: case.prepare(variant, shared, options) for variant in variants}
    for variant, run in runs.items():
        if benchmark.warm_up(variant):
            run()
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    shuffle = random.Random(0)
    for _ in range(options.rounds):
        for variant in shuffle.sample(variants, len(variants)):
            gc.collect()
            seconds[variant].append(runs[variant]()[0])
    return seconds


PARTS = {"probe": probe, "clock": clock}


def settings_of(options: argparse.Namespace) -> Row:
    """The options that what is found depends on."""
    return {key: value for key, value in vars(options).items() if key not in _NO_SETTINGS}


def apart(benchmark: Benchmark, part: str, name: str, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """One of the parts in a process of its own. This one stays small: the peak of a process counts its parent's."""
    settings = [word for key, value in settings_of(options).items() for word in (f"--{key}", str(value))]
    script = f"benchmarks.speed.{benchmark.name}"
    command = [sys.executable, "-m", script, *settings, "--part", part, name, *variants]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | _MEMORY[part])
    if done.returncode:
        return {"error": f"its process ended with {done.returncode}; -9 is for want of memory"}
    return json.loads(done.stdout.splitlines()[-1])


def compare(probes: Mapping[str, Row], benchmark: Benchmark, tolerance: float) -> None:
    """Puts the largest relative difference from the twin's findings in their place; one too large is an error."""
    found = {variant: row.pop("found", None) for variant, row in probes.items()}
    for variant, row in probes.items():
        if found[variant] is None:
            continue
        twin = benchmark.twin(variant)
        ours = np.array(found.get(twin) or np.nan)
        row["difference"] = float(np.max(np.abs(np.array(found[variant]) - ours) / ours))
        if not row["difference"] <= tolerance:
            row["error"] = f"its {benchmark.finds} differ from those of {twin} by up to {row['difference']:.1e}"


def times(seconds: list[float] | None, limit: list[float]) -> Row:
    """Medians and spread; nulls for what was not timed."""
    if seconds is None:
        return {"seconds": None, "ratio": None}
    low, ratio, high = np.quantile(np.array(seconds) / np.array(limit), [0.25, 0.5, 0.75]).round(3).tolist()
    spread = {"ratio_low": low, "ratio_high": high, "rounds": len(seconds)}
    return {"seconds": round(statistics.median(seconds), 3), "ratio": ratio, **spread}


def measure(benchmark: Benchmark, name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of one case."""
    variants = benchmark.cases[name].variants
    probes = {variant: apart(benchmark, "probe", name, [variant], options) for variant in variants}
    compare(probes, benchmark, benchmark.tolerance(options))
    able = [variant for variant, found in probes.items() if "error" not in found]
    seconds = apart(benchmark, "clock", name, able, options)
    if "limit" not in seconds:
        sys.exit(f"{name}: {probes['limit'].get('error') or seconds.get('error')}")
    label = benchmark.label(name, options)
    return [
        {"case": label, "variant": variant, **times(seconds.get(variant), seconds["limit"]), "peak_mib": None, **found}
        for variant, found in probes.items()
    ]


def finished(benchmark: Benchmark, name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of a case, from its file in the run's folder if that was made with the same settings."""
    file = options.run / f"{benchmark.label(name, options)}.json"
    settings = {**settings_of(options), "versions": versions(*benchmark.rivals), "code": code()}
    if file.is_file() and (made := json.loads(file.read_text(encoding="utf-8")))["settings"] == settings:
        return made["rows"]
    rows = measure(benchmark, name, options)
    write_json(file, {"settings": settings, "rows": rows})
    return rows


def markdown(benchmark: Benchmark, rows: Sequence[Row], threads: int) -> str:
    """The table for people."""
    kept = "the process that is timed keeps the memory that it frees (`paired.py`)"
    made = f"`{command_line()}`, {now()}, {threads} threads of {os.cpu_count()} cores, {kept}"
    lines = [f"# {benchmark.title}", "", f"{made}; {used(versions(*benchmark.rivals))}.", ""]
    lines += ["| case | variant | seconds | ratio to the limit [quartiles] | peak MiB |", "|---|---|---:|---|---:|"]
    for row in rows:
        told = row.get("error") or "{} [{}, {}]".format(*(_told(row[f"ratio{of}"]) for of in ("", "_low", "_high")))
        seconds, peak = ("" if row[key] is None else row[key] for key in ("seconds", "peak_mib"))
        lines.append(f"| {row['case']} | {row['variant']} | {seconds} | {told} | {peak} |")
    return "\n".join([*lines, "", benchmark.aims, ""])


def _told(ratio: float) -> str:
    """Small ones with more places."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.3f}"


def estimate(cases: Sequence[Case], rounds: int) -> float:
    """The seconds of some cases: of each variant a probe and a warm-up before the rounds, and all their processes."""
    return sum(case.seconds * (rounds + 2) + _START * (len(case.variants) + 1) for case in cases)


def _options(benchmark: Benchmark) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=benchmark.about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--json", type=Path, default=Path(f"results/{benchmark.name}/speed.json"))
    parser.add_argument("--run", type=Path, default=Path(f"runs/{benchmark.name}"), help="of the finished cases")
    parser.add_argument("--cases", nargs="+", choices=benchmark.cases, default=list(benchmark.cases))
    parser.add_argument("--model", default="embedded:aligned")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    for name, settings in benchmark.arguments.items():
        parser.add_argument(name, **settings)
    parser.add_argument("--part", nargs="+", metavar="PART, CASE, VARIANTS", help="what this script asks of itself")
    return parser.parse_args()


def main(benchmark: Benchmark) -> None:
    """Measures all cases, or those that are named."""
    options = _options(benchmark)
    torch.set_num_threads(options.threads)
    quiet_libraries()
    warnings.filterwarnings("ignore", category=UserWarning)  # The rivals' advice on speed.
    if options.part:
        part, name, *variants = options.part
        print(json.dumps(PARTS[part](benchmark, benchmark.cases[name], variants, options)))
        return
    work = estimate([benchmark.cases[name] for name in options.cases], options.rounds)
    print(f"About {work:.0f} seconds on two cores, less what is finished.", flush=True)
    rows = [row for name in options.cases for row in finished(benchmark, name, options)]
    write_table(options.json, rows)
    text = markdown(benchmark, rows, options.threads)
    with whole_file(options.json.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)
