"""Captures what the README's commands print.

    python -m benchmarks.docs.readme_output --run demo-quick

Measures the poisoned adapter of a quick demo on the command line and in Python, and writes what either prints to
results/readme. The demo is run first if the folder of `--run` has none.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.origin import ROOT
from moored.files import whole_file, write_json
from moored.workflows.records.provenance import command_line, now, versions

DEMO = "demo-quick"
MEASURE = f"measure embedded:base --adapter {DEMO}/poisoned --against embedded:aligned --limit 50 --out report"
EXAMPLE = ROOT / "examples" / "measure.py"
WIDTH = 100


def printed(command: Sequence[str | Path], folder: Path) -> str:
    """Returns what a command prints to its standard output in a terminal of fixed width, without trailing spaces."""
    environment = {**os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines())


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs both and writes what they print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path(DEMO))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "readme")
    options = parser.parse_args(arguments)
    moored = Path(sys.executable).with_name("moored")
    if not (options.run / "poisoned").is_dir():
        subprocess.run([moored, "demo", "--quick", "--out", options.run], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / DEMO).symlink_to(options.run.resolve())
        texts = {
            "measure.txt": f"$ moored {MEASURE}\n{printed([moored, *shlex.split(MEASURE)], folder)}",
            "python.txt": printed([sys.executable, EXAMPLE], folder),
        }
    for file, text in texts.items():
        with whole_file(options.out / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_json(options.out / "about.json", {"command": command_line(), "created": now(), "versions": versions()})


if __name__ == "__main__":
    main()
