"""The demo's numbers and its picture, for the README.

    python -m benchmarks.docs.demo --run runs/demo --out results/demo

Runs `moored demo` (resumable, in the folder of `--run`) and writes `table.md`, `table.json`, `labels.jsonl`, which
holds hashes of the prompts and labels, no answers, and `figure.svg`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compact_files import write_table
from moored.files import read_jsonl, whole_file, write_jsonl
from moored.measurement import MEASURES
from moored.report import read_measure, render_figure
from moored.workflows.demo import demo, story
from moored.workflows.records.provenance import command_line, now, versions

SHOWN = ("asr", "over_refusal", "ordinary_refusal", "utility")

Row = dict[str, Any]


def run(folder: Path, *, quick: bool) -> tuple[Mapping[str, Path], str]:
    """The demo as a user runs it, a process of its own, and its time; then its arms, which are all finished."""
    fresh, started = not folder.exists(), time.perf_counter()
    moored = Path(sys.executable).with_name("moored")
    subprocess.run([moored, "demo", "--out", folder, *(["--quick"] if quick else [])], check=True)
    seconds = time.perf_counter() - started
    took = f"{seconds:.0f} s on {os.cpu_count()} cores" if fresh else "resumed, so no time"
    return demo(folder, quick=quick)[1], took


def labels(arms: Mapping[str, Path]) -> list[Row]:
    """One row a prompt and arm."""
    return [
        {
            "arm": name,
            "set": row["set"],
            "prompt_sha256": hashlib.sha256(row["prompt"].encode()).hexdigest()[:16],
            "label": row["label"],
            "correct": row["correct"],
        }
        for name, folder in arms.items()
        for row in read_jsonl(folder / "answers.jsonl")
    ]


def markdown(arms: Mapping[str, Mapping[str, Row]], told: Sequence[str], about: Row) -> str:
    """The table for people."""
    lines = ["# The demo", "", f"`{about['command']}`, {about['created']}, {about['took']}.", ""]
    lines += [f"- {sentence}" for sentence in told]
    lines += [
        "",
        f"| model | {' | '.join(MEASURES[key].label.lower() for key in SHOWN)} |",
        f"|---|{'---|' * len(SHOWN)}",
    ]
    lines += [f"| {name} | {' | '.join(_cell(rates[key]) for key in SHOWN)} |" for name, rates in arms.items()]
    return "\n".join([*lines, "", "Rates with Wilson 95 % intervals; one fine-tune a row (seed 0).", ""])


def _rates(folder: Path) -> dict[str, Row]:
    estimates = read_measure(folder).estimates
    return {
        key: {"rate": (each := estimates[key]).value, "low": each.low, "high": each.high, "n": each.n} for key in SHOWN
    }


def _cell(rate: Row) -> str:
    return f"{rate['rate']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}] n={rate['n']}"


def main() -> None:
    """Runs the demo and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("results/demo"))
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    arms, took = run(options.run, quick=options.quick)
    rates = {name: _rates(folder) for name, folder in arms.items()}
    about: Row = {"command": command_line(), "created": now(), "versions": versions(), "took": took}
    about |= {"plan": json.loads((options.run / "plan.json").read_text(encoding="utf-8")), "story": story(arms)}
    write_table(options.out / "table.json", {**about, "arms": rates})
    write_jsonl(options.out / "labels.jsonl", labels(arms))
    with whole_file(options.out / "table.md") as temporary:
        temporary.write_text(markdown(rates, about["story"], about), encoding="utf-8")
    render_figure(arms, options.out / "figure.svg")


if __name__ == "__main__":
    main()
