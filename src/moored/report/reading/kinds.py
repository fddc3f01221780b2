"""Reading of the reports that are shown as they are."""

import json
from pathlib import Path
from typing import Any

from moored.errors import InputError
from moored.files import read_text


def read_kind(folder: Path, kind: str) -> dict[str, Any]:
    """The content of a `report.json` of one kind.

    Raises:
        InputError: it is missing, no JSON, or of another kind.
    """
    path = Path(folder) / "report.json"
    try:
        report = json.loads(read_text(path))
        found = report["kind"]
    except (json.JSONDecodeError, TypeError, KeyError):
        raise InputError(f"{path} is no report; inspect the model again.") from None
    if found != kind:
        raise InputError(f"{path} is a report of kind {found!r}; name a folder of moored {kind}.")
    return report
