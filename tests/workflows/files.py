"""What the tests of the workflows look at in folders, and the files that they write."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in a folder by name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Writes rows as JSONL or CSV, by the suffix, and returns the path as a user would type it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)
