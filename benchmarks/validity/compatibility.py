"""Writes docs/compatibility.md: what the conformance tests have shown of each kind of thing that people bring.

    pytest tests/conformance --conformance --conformance-results runs/conformance.jsonl
    python -m benchmarks.validity.compatibility runs/conformance.jsonl

The cases are kept in results/conformance/cases.json, from which `--from-results` writes the page again.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
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
COLUMNS = {
    "architectures": {
        "test_answers_and_probabilities_are_those_of_rows_alone": "measure",
        "test_norms_by_lora": "select by a LoRA",
        "test_norms_by_all_parameters": "select by all weights",
        "test_a_repaired_adapter_is_what_was_in_memory": "recover an adapter",
        "test_a_checkpoint_repaired_by_steps": "recover a checkpoint",
        "test_a_checkpoint_repaired_by_a_formula": "recover by a formula",
    }
}
"""What each test of an area shows, where a kind may work for one thing and be refused for another."""
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
    """The outcomes of each kind in each area, with all notes: the one that restricts most of each column's.

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
            "outcomes": _outcomes(area, own),
            "note": "; ".join(dict.fromkeys(row["note"] for row in own if row["note"])),
        }
        for (area, kind), own in sorted(kinds.items())
    ]


def _columns(area: str) -> list[str]:
    return list(COLUMNS.get(area, {}).values()) or ["outcome"]


def _outcomes(area: str, rows: Sequence[Row]) -> dict[str, str]:
    """By the columns of the area."""
    titles = COLUMNS.get(area, {})
    seen: dict[str, list[str]] = {title: [] for title in _columns(area)}
    for row in rows:
        seen[titles.get(row["test"], "outcome")].append(row["outcome"])
    return {title: max(own, key=SEVERITY.index) for title, own in seen.items() if own}


def page(results: Mapping[str, Any]) -> str:
    """The page for people."""
    used = ", ".join(" ".join(package) for package in results["versions"].items())
    lines = [INTRODUCTION, f"Tried on {results['created'][:10]} with {used}.", ""]
    for area, title in AREAS.items():
        rows = [row for row in results["cases"] if row["area"] == area]
        if rows:
            lines += [f"## {title}", "", _counts(rows), "", *_table(_columns(area), rows), ""]
    return "\n".join(lines)


def _counts(rows: Sequence[Row]) -> str:
    outcomes = [outcome for row in rows for outcome in row["outcomes"].values()]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in SEVERITY)
    return f"{len(rows)} kinds: {counts}."


def _table(columns: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(['kind', *columns, 'note'])} |"
    yield "|---" * (2 + len(columns)) + "|"
    for row in rows:
        cells = [row["kind"], *(row["outcomes"].get(column, "") for column in columns), row["note"]]
        yield f"| {' | '.join(map(_cell, cells))} |"


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
