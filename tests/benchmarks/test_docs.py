"""README.md and docs/ state what results/ and the code hold, and link to what exists."""

import re

import pytest

from benchmarks.docs import pages as docs

FIRST_SCREEN = 45
"""Lines of the README that a reader sees before scrolling."""


@pytest.fixture
def readme():
    return (docs.ROOT / "README.md").read_text(encoding="utf-8")


def test_the_tables_are_up_to_date():
    for name, tables in docs.TABLES.items():
        text = (docs.ROOT / name).read_text(encoding="utf-8")
        assert docs.filled(text, tables) == text, f"{name}: run `python -m benchmarks.docs.pages`"


def test_a_table_without_a_place_is_said():
    with pytest.raises(ValueError, match="0 places for the table methods"):
        docs.filled("no table", {"methods": docs.methods})


def test_every_link_between_files_leads_to_one():
    for file in [
        *docs.ROOT.glob("*.md"),
        *docs.ROOT.glob("docs/*.md"),
        docs.ROOT / "results/README.md",
    ]:
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
        assert [link for link in links if not (file.parent / link).exists()] == [], file.name


def test_the_readme_is_short_and_opens_with_what_a_newcomer_needs(readme):
    assert len([word for word in readme.split() if re.search(r"\w", word)]) <= 900
    opening = "\n".join(readme.splitlines()[:FIRST_SCREEN])
    needed = ("pip install moored", "moored demo", "<!-- demo -->", "I want to")
    assert [text for text in needed if text not in opening] == []


def test_the_readme_s_python_is_the_example_s(readme):
    assert (docs.ROOT / "examples/measure.py").read_text(encoding="utf-8").strip() in readme
