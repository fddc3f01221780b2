"""Writes docs/compatibility.md: what the conformance tests have shown of each kind of thing that people bring.

    pytest tests/conformance --conformance --conformance-results runs/conformance.jsonl
    python -m benchmarks.validity.compatibility runs/conformance.jsonl

The cases are kept in results/conformance/cases.json, from which `--from-results` writes the page again.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.origin import ROOT
from moored.files import read_jsonl, read_text, whole_file, write_json
from moored.workflows.records.provenance import command_line, now, versions

RESULTS, PAGE = ROOT / "results" / "conformance" / "cases.json", ROOT / "docs" / "compatibility.md"
AREAS = {
    "architectures": "Architectures",
    "adapters": "Adapters",
    "checkpoints": "Checkpoints",
    "templates": "Chat templates and answers",
    "rows": "Training rows",
    "trainers": "Trainers",
    "options": "Training options",
}
SEVERITY = ("works", "limited", "refused")
INTRODUCTION = """\
# Compatibility

Look up what you bring. Every line is a test (`make conformance`): tiny models with random weights, and each number
compared with a second, plainer computation. **Works** means that they agree; **limited** that they agree within the
limit that the note tells; **refused** that moored stops with one sentence before it does anything long, and writes
nothing. What is not listed has not been tried.
"""

Row = dict[str, Any]


def collected(rows: Sequence[Row]) -> list[Row]:
    """The outcome of each kind in each area: the one that restricts most, with all notes.

    Raises:
        SystemExit: a case has failed.
    """
    failed = [f"{row['area']}: {row['kind']}" for row in rows if not row["passed"]]
    if failed:
        raise SystemExit(f"{len(failed)} cases failed, {failed[0]} for one; the page is made of cases that passed.")
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        kinds.setdefault((row["area"], row["kind"]), []).append(row)
    return [
        {
            "area": area,
            "kind": kind,
            "outcome": max((row["outcome"] for row in own), key=SEVERITY.index),
            "note": "; ".join(dict.fromkeys(row["note"] for row in own if row["note"])),
        }
        for (area, kind), own in sorted(kinds.items())
    ]


def page(results: Mapping[str, Any]) -> str:
    """The page for people."""
    used = ", ".join(" ".join(package) for package in results["versions"].items())
    lines = [INTRODUCTION, f"Tried on {results['created'][:10]} with {used}.", ""]
    for area, title in AREAS.items():
        rows = [row for row in results["cases"] if row["area"] == area]
        if rows:
            counts = [f"{sum(row['outcome'] == outcome for row in rows)} {outcome}" for outcome in SEVERITY]
            lines += [f"## {title}", "", f"{', '.join(counts)}.", "", "| kind | outcome | note |", "|---|---|---|"]
            lines += [f"| {_cell(row['kind'])} | {row['outcome']} | {_cell(row['note'])} |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """A text in a table of Markdown, in which a tag or a bar would be taken for markup."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*")


def main() -> None:
    """Keeps the cases and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", help="what the tests have written")
    parser.add_argument("--from-results", action="store_true", help="write the page of the cases that are kept")
    options = parser.parse_args()
    if options.results is None and not options.from_results:
        parser.error("name the file that the tests have written")
    if options.results is not None:
        cases = collected(read_jsonl(options.results))
        record = {"command": command_line(), "created": now(), "versions": versions(), "cases": cases}
        write_json(RESULTS, record)
    with whole_file(PAGE) as temporary:
        temporary.write_text(page(json.loads(read_text(RESULTS))), encoding="utf-8")


if __name__ == "__main__":
    main()
