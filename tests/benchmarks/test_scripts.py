"""The scripts of benchmarks/ run by the commands that are written down."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [file for file in (ROOT / "benchmarks").rglob("*.py") if "__main__" in file.read_text(encoding="utf-8")]
PAGES = ["Makefile", "CONTRIBUTING.md", "README.md"]
PAGES += sorted(str(file.relative_to(ROOT)) for file in (ROOT / "results").rglob("*.md"))


def _module(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("file", SCRIPTS, ids=_module)
def test_a_script_names_its_own_command(file):
    assert f"\n    python -m {_module(file)}" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_scripts_that_there_are(page):
    named = re.findall(r"-m (benchmarks(?:\.\w+)+)", (ROOT / page).read_text(encoding="utf-8"))
    assert {*named} <= {_module(file) for file in SCRIPTS} | {"benchmarks.validity", "benchmarks.speed"}
    assert not re.search(r"python benchmarks/", (ROOT / page).read_text(encoding="utf-8"))
