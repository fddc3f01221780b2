"""Writes the tables and figures of the trials from the runs in results/, without data, models or training.

    python -m benchmarks.trials.tables
    python -m benchmarks.trials.tables recovery_trial

The settings' key, and what else does not follow from the runs, is taken from the `table.json` that is there.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.origin import ROOT
from benchmarks.trials import recovery_table, regularizers_table, selection_table
from benchmarks.trials.selection import ARMS

RESULTS = ROOT / "results"
TABLES: Mapping[str, Callable[[Path, dict[str, Any]], None]] = {
    "selection_trial": lambda out, old: selection_table.write_table(out, [arm.name for arm in ARMS], old["key"]),
    "regularizers_trial": lambda out, old: regularizers_table.write_table(out, old["key"], old["constant"]),
    "recovery_trial": lambda out, old: recovery_table.write_table(out, old["key"]),
    "recovery_0.5b": lambda out, old: recovery_table.write_table(out, old["key"]),
}
"""By the trial's folder in results/."""


def remake(trial: str, results: Path = RESULTS) -> None:
    """Writes the table of one trial again."""
    out = results / trial
    TABLES[trial](out, json.loads((out / "table.json").read_text(encoding="utf-8")))


def main() -> None:
    """Writes those that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", metavar="TRIAL", help=f"one of {', '.join(TABLES)}; all by default")
    for trial in parser.parse_args().trials or TABLES:
        remake(trial)


if __name__ == "__main__":
    main()
