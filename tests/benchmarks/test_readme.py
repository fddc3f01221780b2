"""The README's tables are those of results/."""

import pytest


@pytest.fixture
def readme(benchmark):
    return benchmark("readme")


def test_the_readme_s_tables_are_up_to_date(readme):
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.filled(text) == text, "run python benchmarks/readme.py"


def test_a_table_without_a_place_is_said(readme):
    with pytest.raises(ValueError, match="0 places for the table selection"):
        readme.filled("no table")
