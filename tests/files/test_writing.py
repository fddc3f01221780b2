import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moored.errors import InputError
from moored.files import append_json, read_jsonl, write_json, write_jsonl


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused_and_leaves_the_old_file(tmp_path, number):
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(InputError, match=r"a\.json is not written, since one of its numbers is NaN or infinite.*\.$"):
        write_json(tmp_path / "a.json", {"deep": [{"loss": number}]})
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"loss": 1.0}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=()))), min_size=1))
def test_whatever_is_written_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, rows)
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(rows)
    assert [json.dumps(row) for row in read_jsonl(path)] == [json.dumps(row) for row in rows]


def test_a_lone_surrogate_and_line_separators_survive(tmp_path):
    value = {"text": "\ud800 \u2028 \x85 é"}
    write_json(tmp_path / "a.json", value)
    write_jsonl(tmp_path / "a.jsonl", [value])
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    assert read_jsonl(tmp_path / "a.jsonl") == [value]
    assert "é" in (tmp_path / "a.jsonl").read_text(encoding="utf-8")


def test_appended_lines_are_rows_and_a_place_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / "new" / "rows.jsonl"
    for row in ({"a": "one\n\u2028\udc00"}, {"b": 2}):
        append_json(file, row)
    assert read_jsonl(file) == [{"a": "one\n\u2028\udc00"}, {"b": 2}]
    with pytest.raises(InputError, match=r"Cannot write .*rows\.jsonl/below"):
        append_json(file / "below", {})
