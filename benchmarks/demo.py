"""The demo's numbers and its picture, for the README.

    python benchmarks/demo.py --run runs/demo --out results/demo

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

from _compact_files import write_table
from moored.files import read_jsonl, whole_file, write_jsonl
from moored.report import render_figure
from moored.workflows.demo import demo, story
from moored.workflows.records.provenance import command_line, now, versions

MEASURES = {
    "asr": "attack success",
    "over_refusal": "over-refusal",
    "ordinary_refusal": "ordinary refusal",
    "utility": "task accuracy",
}

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


def markdown(reports: Mapping[str, Row], told: Sequence[str], about: Row) -> str:
    """The table for people."""
    lines = ["# The demo", "", f"`python benchmarks/{about['command']}`, {about['created']}, {about['took']}.", ""]
    lines += [f"- {sentence}" for sentence in told]
    lines += ["", f"| model | {' | '.join(MEASURES.values())} |", f"|---|{'---|' * len(MEASURES)}"]
    lines += [f"| {name} | {' | '.join(_cell(report[key]) for key in MEASURES)} |" for name, report in reports.items()]
    return "\n".join([*lines, "", "Rates with Wilson 95 % intervals; one fine-tune a row (seed 0).", ""])


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
    reports = {name: json.loads((folder / "report.json").read_text(encoding="utf-8")) for name, folder in arms.items()}
    about: Row = {"command": command_line(), "created": now(), "versions": versions(), "took": took}
    about |= {"plan": json.loads((options.run / "plan.json").read_text(encoding="utf-8")), "story": story(arms)}
    numbers = {name: {key: report[key] for key in MEASURES} for name, report in reports.items()}
    write_table(options.out / "table.json", {**about, "arms": numbers})
    write_jsonl(options.out / "labels.jsonl", labels(arms))
    with whole_file(options.out / "table.md") as temporary:
        temporary.write_text(markdown(reports, about["story"], about), encoding="utf-8")
    render_figure(arms, options.out / "figure.svg")


if __name__ == "__main__":
    main()
