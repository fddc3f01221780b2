"""What per-sample gradient norms cost, ours and others', in multiples of a plain step on the embedded model.

    python benchmarks/selection.py --json results/selection/speed.json

Writes a list of rows `{"case", "variant", "seconds", "ratio", "peak_mib", …}`, and beside it the same for people. Each
variant first runs once in a process of its own: that gives its peak of memory beyond the loaded model, and its norms,
which are compared with ours. What fails there or finds other norms is listed with its error and not timed. The others
are timed in turns in one process, in a new order each round. `ratio` is the median over the limit's, which is a plain
forward and backward of the same batch; `ratio_low` and `ratio_high` are the quartiles of the rounds' own ratios. In a
case called `online` the limit is one step of TRL's trainer over a pool of rows, and ours one that selects a fifth.

Opacus is no dependency: `pip install --no-deps opacus==1.6.0 opt_einsum`. Finished cases lie in `--run`, and a call
after an interruption goes on from there unless settings, versions or code have changed.
"""

import argparse
import gc
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import moored
from _selection_cases import CASES, DTYPES, Case, load, prepare
from moored.files import sha256_of, whole_file, write_json
from moored.huggingface.quiet import quiet_libraries
from moored.workflows._provenance import command_line, now, versions

AIMS = "Aims for ours: ≤ 1.08 with LoRA, ≤ 1.3 with all parameters, ≤ 1.35 online; faster than every other way."
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}
"""How far a rival's norm may be from ours, relatively."""
TOKENS_PER_SECOND = 60
"""With all variants of a round together, on two cores: for the estimate that is printed first."""

Row = dict[str, Any]


def probe(case: Case, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """Runs one variant once: its norms, and the most memory that this process held beyond the loaded model."""
    model = load(case, options.model, options.dtype)
    try:
        run = prepare(case, variants[0], model, options.model)
        before = psutil.Process().memory_info().rss
        _, norms = run()
    except Exception as error:  # Whatever keeps a rival from running is a result.
        return {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"peak_mib": round((peak - before) / 2**20), "norms": None if norms is None else norms.tolist()}


def clock(case: Case, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """The seconds of each variant in each round, after a warm-up."""
    model = load(case, options.model, options.dtype)
    runs = {variant: prepare(case, variant, model, options.model) for variant in variants}
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    shuffle = random.Random(0)
    for _ in range(options.rounds):
        for variant in shuffle.sample(variants, len(variants)):
            gc.collect()
            seconds[variant].append(runs[variant]()[0])
    return seconds


PARTS = {"probe": probe, "clock": clock}


def apart(part: str, name: str, variants: Sequence[str], options: argparse.Namespace) -> Row:
    """One of the parts in a process of its own. This one stays small: the peak of a process counts its parent's."""
    settings = ["--model", options.model, "--dtype", options.dtype]
    settings += ["--threads", str(options.threads), "--rounds", str(options.rounds)]
    command = [sys.executable, __file__, *settings, "--part", part, name, *variants]
    # A heap in pieces can take twice the memory that is in use, by chance; as maps, tensors are given back.
    memory = {"MALLOC_MMAP_THRESHOLD_": "65536"} if part == "probe" else {}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ | memory)
    if done.returncode:
        return {"error": f"its process ended with {done.returncode}; -9 is for want of memory"}
    return json.loads(done.stdout.splitlines()[-1])


def compare(probes: Mapping[str, Row], tolerance: float) -> None:
    """Puts the largest relative difference from our norms in their place; one that is too large is an error."""
    ours = np.array(probes["moored"].get("norms") or np.nan)
    for found in probes.values():
        norms = found.pop("norms", None)
        if norms is None:
            continue
        found["difference"] = float(np.max(np.abs(np.array(norms) - ours) / ours))
        if not found["difference"] <= tolerance:
            found["error"] = f"its norms differ from ours by up to {found['difference']:.1e}"


def times(seconds: list[float] | None, limit: list[float]) -> Row:
    """Medians and spread; nulls for what was not timed."""
    if seconds is None:
        return {"seconds": None, "ratio": None}
    median, of_limit = statistics.median(seconds), statistics.median(limit)
    low, high = np.quantile(np.array(seconds) / np.array(limit), [0.25, 0.75]).round(3).tolist()
    spread = {"ratio_low": low, "ratio_high": high, "rounds": len(seconds)}
    return {"seconds": round(median, 3), "ratio": round(median / of_limit, 3), **spread}


def measure(name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of one case."""
    probes = {variant: apart("probe", name, [variant], options) for variant in CASES[name].variants}
    compare(probes, TOLERANCE[options.dtype])
    able = [variant for variant, found in probes.items() if "error" not in found]
    seconds = apart("clock", name, able, options)
    if "limit" not in seconds:
        sys.exit(f"{name}: {probes['limit'].get('error') or seconds.get('error')}")
    label = name if options.dtype == "fp32" else f"{name}-{options.dtype}"
    return [
        {"case": label, "variant": variant, **times(seconds.get(variant), seconds["limit"]), "peak_mib": None, **found}
        for variant, found in probes.items()
    ]


def code() -> str:
    """A hash of the package and of the benchmarks."""
    folders = (Path(moored.__file__).parent, Path(__file__).parent)
    digests = [sha256_of(file) for folder in folders for file in sorted(folder.rglob("*.py"))]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def finished(name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of a case, from its file in the run's folder if that was made with the same settings."""
    file = options.run / f"{name}-{options.dtype}.json"
    settings = {key: getattr(options, key) for key in ("model", "threads", "rounds")}
    settings |= {"versions": versions(), "code": code()}
    if file.is_file() and (made := json.loads(file.read_text(encoding="utf-8")))["settings"] == settings:
        return made["rows"]
    rows = measure(name, options)
    write_json(file, {"settings": settings, "rows": rows})
    return rows


def markdown(rows: Sequence[Row], threads: int) -> str:
    """The table for people."""
    made = f"`python benchmarks/{command_line()}`, {now()}, {threads} threads of {os.cpu_count()} cores"
    used = ", ".join(f"{package} {number}" for package, number in versions().items())
    lines = ["# What per-sample gradient norms cost", "", f"{made}; {used}.", ""]
    lines += ["| case | variant | seconds | ratio to the limit [quartiles] | peak MiB |", "|---|---|---:|---|---:|"]
    for row in rows:
        told = row.get("error") or f"{row['ratio']:.2f} [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        seconds, peak = ("" if row[key] is None else row[key] for key in ("seconds", "peak_mib"))
        lines.append(f"| {row['case']} | {row['variant']} | {seconds} | {told} | {peak} |")
    return "\n".join([*lines, "", AIMS, ""])


def main() -> None:
    """Measures all cases, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("results/selection/speed.json"))
    parser.add_argument("--run", type=Path, default=Path("runs/selection"), help="folder of the finished cases")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--model", default="embedded:aligned")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", nargs="+", metavar="PART, CASE, VARIANTS", help="what this script asks of itself")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    quiet_libraries()
    warnings.filterwarnings("ignore", category=UserWarning)  # The rivals' advice on speed.
    if options.part:
        part, name, *variants = options.part
        print(json.dumps(PARTS[part](CASES[name], variants, options)))
        return
    work = sum(CASES[name].rows * CASES[name].columns for name in options.cases) * (options.rounds + 2)
    print(f"About {work / TOKENS_PER_SECOND:.0f} seconds on two cores, less what is finished.", flush=True)
    rows = [row for name in options.cases for row in finished(name, options)]
    write_json(options.json, rows)
    text = markdown(rows, options.threads)
    with whole_file(options.json.with_suffix(".md")) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
