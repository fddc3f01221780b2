"""What the long runs of `tests/stress` have counted: commands stopped at many points, and made inputs.

    python -m benchmarks.validity.stress

It runs `pytest tests/stress --stress`, which takes about 20 minutes, and makes the table of what the tests write down;
`--records FILE` makes it of an earlier run's file. A test that fails writes nothing down, and ends the script.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.origin import used
from moored.files import read_jsonl, whole_file, write_json
from moored.workflows.records.provenance import command_line, now, versions

HERE = Path(__file__).resolve().parents[2]
TESTS = ("tests/stress", "--stress", "-q", "--numprocesses", "2", "--dist", "load")
STOPS = {
    "SIGKILL": "killed",
    "SIGTERM": "ended (SIGTERM)",
    "SIGINT": "interrupted (SIGINT)",
    "ENOSPC": "disk full",
}

Record = dict[str, Any]


def recorded(file: Path | None) -> list[Record]:
    """What the tests have written down, now or earlier."""
    if file is not None:
        return read_jsonl(file)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "records.jsonl"
        subprocess.run([sys.executable, "-m", "pytest", *TESTS, "--stress-results", str(written)], cwd=HERE, check=True)
        return read_jsonl(written)


def of(records: Sequence[Record], test: str) -> list[Record]:
    return [record for record in records if record["test"] == test]


def stops(records: Sequence[Record]) -> list[str]:
    """One line a command: how many of the stops, each at another change of a file, ended in an equal result."""
    stopped, together = of(records, "stopped"), {row["command"]: row for row in of(records, "two at once")}
    lines = [
        f"| command | changes of files | {' | '.join(STOPS.values())} | two at once |",
        "|---|--:|" + "---|" * (len(STOPS) + 1),
    ]
    for command in sorted({row["command"] for row in stopped}):
        own = {row["by"]: row for row in stopped if row["command"] == command}
        cells = [f"{own[by]['equal']}/{own[by]['points']}" if by in own else "–" for by in STOPS]
        both = f"{together[command]['equal']}/1" if command in together else "–"
        events = max(row["events"] for row in own.values())
        lines.append(f"| `moored {command}` | {events} | {' | '.join(cells)} | {both} |")
    return lines


def made(records: Sequence[Record]) -> list[str]:
    """One line a kind of input."""
    rows = sorted(of(records, "made inputs"), key=lambda row: row["kind"])
    lines = ["| input | made | read | refused in one sentence |", "|---|--:|--:|--:|"]
    lines += [f"| {r['kind']} | {r['read'] + r['refused']:,} | {r['read']:,} | {r['refused']:,} |" for r in rows]
    read, refused = (sum(row[name] for row in rows) for name in ("read", "refused"))
    return [*lines, f"| **all** | **{read + refused:,}** | **{read:,}** | **{refused:,}** |"]


def markdown(records: Sequence[Record], made_by: Record) -> str:
    """The table for people."""
    return "\n".join(
        [
            "# Stops and made inputs",
            "",
            f"`{made_by['command']}`, {made_by['created']}; {used(made_by['versions'])}.",
            "",
            "Each command on a tiny model was stopped at up to 20 points, spread over the changes that it makes to "
            "files (at every one where there are fewer), and was then run again: *equal* is the number of points "
            "after which the second run's result is that of a run that nothing stopped, with nothing left over. "
            "*Two at once* write into one folder: one of them is refused, and the other's result is whole.",
            "",
            *stops(records),
            "",
            "Inputs that hypothesis made, most of them broken. Each is read, or refused in one sentence that is no "
            "traceback; nothing half-written is left. Anything else would have failed the test.",
            "",
            *made(records),
            "",
        ]
    )


def main() -> None:
    """Runs the tests, unless their records are named, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=Path, help="what an earlier run wrote with --stress-results")
    parser.add_argument("--out", type=Path, default=Path("results/stress"))
    options = parser.parse_args()
    records = recorded(options.records)
    origin = {"command": command_line(), "created": now(), "versions": versions()}
    write_json(options.out / "stress.json", {**origin, "rows": records})
    with whole_file(options.out / "stress.md") as temporary:
        temporary.write_text(markdown(records, origin), encoding="utf-8")
    print(markdown(records, origin))


if __name__ == "__main__":
    main()
