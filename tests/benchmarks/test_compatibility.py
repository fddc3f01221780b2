"""The page of what works: made of the conformance tests' results, and of nothing else."""

import json

import pytest

from benchmarks.origin import ROOT
from benchmarks.validity.compatibility import COLUMNS, PAGE, RESULTS, collected, page

MEASURED, SELECTED = list(COLUMNS["architectures"])[:2]


def _row(**values):
    row = {"area": "rows", "test": "test_x", "kind": "a", "outcome": "works", "note": "", "passed": True}
    return row | values


def test_a_kind_works_as_far_as_its_most_restricted_case():
    rows = [_row(), _row(outcome="refused", note="one"), _row(outcome="limited", note="two"), _row(note="one")]
    assert collected(rows) == [{"area": "rows", "kind": "a", "outcomes": {"outcome": "refused"}, "note": "one; two"}]


def test_an_architecture_may_work_for_one_thing_and_be_refused_for_another():
    rows = [_row(area="architectures", test=MEASURED), _row(area="architectures", test=SELECTED, outcome="refused")]
    (made,) = collected(rows)
    assert made["outcomes"] == {"measure": "works", "select by a LoRA": "refused"}
    text = page({"created": "2026-01-01T00:00", "versions": {"torch": "2"}, "cases": [made]})
    assert "| a | works | refused |  |  |  |  |  |" in text and "1 kinds: 1 works, 0 limited, 1 refused." in text


def test_no_page_is_made_of_cases_that_failed():
    with pytest.raises(SystemExit, match="1 cases failed, rows: a"):
        collected([_row(passed=False)])


def test_the_page_is_made_of_its_results():
    assert page(json.loads(RESULTS.read_text(encoding="utf-8"))) == PAGE.read_text(encoding="utf-8")


def test_each_column_is_a_test_that_exists():
    text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests/conformance").rglob("test_*.py"))
    assert all(f"def {test}(" in text for tests in COLUMNS.values() for test in tests)
