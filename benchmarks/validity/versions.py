"""Whether moored works with the oldest and the newest versions of what it depends on, and with each Python.

    python -m benchmarks.validity.versions --python python3.11 python3.12 python3.13

Every combination gets an environment of its own in `--work`, in which the tests run that need neither the embedded
model nor a browser. A finished combination leaves a record there and is skipped next time; the table in `--out` is made
from the records. torch stays at the version that `requirements/torch.in` names unless `--torch` names another: its
builds with CUDA are gigabytes.
"""

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from moored.files import read_text, whole_file, write_json
from moored.workflows.records.provenance import command_line, now

HERE = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "typer", "requests", "scipy", "matplotlib")
TOOLS = ("beartype", "hypothesis", "pytest", "pytest-xdist")
TESTS = ("tests", "-q", "-m", "not real_model and not browser", "--numprocesses", "2", "--dist", "loadfile")

Record = dict[str, Any]


def requirements(age: str, torch: str) -> Iterator[str]:
    """The dependencies of pyproject.toml: each at its floor, or free to be the newest."""
    for text in tomllib.loads(read_text(HERE / "pyproject.toml"))["project"]["dependencies"]:
        requirement = Requirement(text)
        floor = next(iter(requirement.specifier)).version
        if requirement.name == "torch":
            yield f"torch=={torch}"
        else:
            yield f"{requirement.name}=={floor}" if age == "oldest" else text


def checked(python: str, age: str, torch: str, place: Path) -> Record:
    """Installs one combination and runs the tests with it."""
    record = {"python": python, "age": age, "created": now()}
    subprocess.run([python, "-m", "venv", "--clear", place / "env"], check=True)
    own = str(place / "env" / "bin" / "python")
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*install, *requirements(age, torch), *TOOLS], capture_output=True, text=True)
    if installed.returncode:
        return record | {"outcome": "not installable", "detail": installed.stderr.strip().splitlines()[-1]}
    subprocess.run([*install, "--no-deps", "--editable", str(HERE)], check=True)
    with (place / "log").open("w") as log:
        subprocess.run([own, "-m", "pytest", *TESTS], cwd=HERE, stdout=log, stderr=subprocess.STDOUT)
    summary = read_text(place / "log").strip().splitlines()[-1].strip("= ")
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|errors?|skipped)", summary)}
    works = counts.get("passed", 0) > 0 and not {"failed", "error", "errors"} & set(counts)
    return record | {"outcome": "works" if works else "fails", "detail": summary, "versions": _versions(own)}


def _versions(python: str) -> dict[str, str]:
    script = f"from importlib.metadata import version; print(*map(version, {SHOWN}))"
    found = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(SHOWN, found, strict=True))


def markdown(records: Sequence[Record]) -> str:
    """The table for people."""
    lines = ["# Versions that were tried", "", f"`{command_line()}`, {now()}.", ""]
    lines += [f"| Python | versions | outcome | {' | '.join(SHOWN)} |", "|---" * (3 + len(SHOWN)) + "|"]
    for record in records:
        used = [record.get("versions", {}).get(name, "") for name in SHOWN]
        outcome = f"{record['outcome']}: {record['detail']}"
        lines.append(f"| {' | '.join([record['python'], record['age'], outcome, *used])} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Runs what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="the interpreters")
    parser.add_argument("--ages", nargs="+", choices=["oldest", "newest"], default=["oldest", "newest"])
    parser.add_argument("--torch", help="its version (default: the one of requirements/torch.in)")
    parser.add_argument("--work", type=Path, default=Path("runs/versions"))
    parser.add_argument("--out", type=Path, default=Path("results/versions"))
    options = parser.parse_args()
    torch = options.torch or re.findall(r"^torch==(\S+)", read_text(HERE / "requirements/torch.in"), re.M)[0]
    cases = [(python, age) for python in options.python for age in options.ages]
    places = [options.work.absolute() / f"{Path(python).name}-{age}-{torch}" for python, age in cases]
    print(f"{len(cases)} combinations of about ten minutes and 2 GB each", flush=True)
    for (python, age), place in zip(cases, places, strict=True):
        if not (place / "record.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            write_json(place / "record.json", checked(python, age, torch, place))
    records = [json.loads(read_text(place / "record.json")) for place in places]
    write_json(options.out / "versions.json", {"command": command_line(), "created": now(), "rows": records})
    with whole_file(options.out / "versions.md") as temporary:
        temporary.write_text(markdown(records), encoding="utf-8")
    print(markdown(records))


if __name__ == "__main__":
    main()
