#!/usr/bin/env bash
# datasets 5.2.0 (pandas 3.1.1): load_dataset("json") changes values of a column as soon as its rows have different
# structures, which makes it a column of the type Json: decimals are cut to ten places, and a text that reads as JSON
# ("2024", "true") comes back as the number or the truth value. Alike structures keep both.
#
# Such columns are usual where models learn to call tools: the arguments differ from call to call.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pandas==3.1.1
cat > "$place/columns.py" <<'PY'
import json
import sys
from pathlib import Path

from datasets import disable_progress_bars, load_dataset

disable_progress_bars()


def read(name, values):
    file = Path(sys.argv[1]) / f"{name}.jsonl"
    file.write_text("".join(json.dumps({"arguments": value}) + "\n" for value in values))
    rows = load_dataset("json", data_files=str(file), split="train", cache_dir=sys.argv[1])
    print(f"{name}: {type(rows.features['arguments']).__name__} {[row['arguments'] for row in rows]}")


place = {"latitude": 48.85837012345679}
read("alike", [place, place])
read("texts", ["2024", "true"])
read("mixed", [place, ["x"], "2024", "true"])
PY
seen=$(HF_HUB_OFFLINE=1 "$place/env/bin/python" "$place/columns.py" "$place")
echo "$seen"
expected="alike: dict [{'latitude': 48.85837012345679}, {'latitude': 48.85837012345679}]
texts: Value ['2024', 'true']
mixed: Json [{'latitude': 48.8583701235}, ['x'], 2024, True]"
[ "$seen" = "$expected" ] || { echo "this has changed" >&2; exit 1; }
