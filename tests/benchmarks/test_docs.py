"""The tables of README.md and docs/ are those of results/."""

import re

import pytest


@pytest.fixture
def docs(benchmark):
    return benchmark("docs")


def test_the_tables_are_up_to_date(docs):
    for name, tables in docs.TABLES.items():
        text = (docs.ROOT / name).read_text(encoding="utf-8")
        assert docs.filled(text, tables) == text, f"{name}: run python benchmarks/docs.py"


def test_a_table_without_a_place_is_said(docs):
    with pytest.raises(ValueError, match="0 places for the table selection"):
        docs.filled("no table", docs.TABLES["docs/select.md"])


def test_every_link_between_files_leads_to_one(docs):
    for file in [
        docs.ROOT / "README.md",
        docs.ROOT / "CONTRIBUTING.md",
        *docs.ROOT.glob("docs/*.md"),
        docs.ROOT / "results/README.md",
    ]:
        links = re.findall(r"\]\(([^)#:]+)\)", file.read_text(encoding="utf-8"))
        assert [link for link in links if not (file.parent / link).exists()] == [], file.name
