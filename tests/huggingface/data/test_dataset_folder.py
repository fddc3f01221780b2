import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_from_disk

from moored.errors import InputError
from moored.huggingface.data import dataset_folder, features_of, open_rows, save_rows, unfit_for_json


def _lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_rows(path)


def test_rows_of_unlike_columns_make_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_folder, "_BLOCK", 2)
    chat = [{"role": "user", "content": "a"}]
    rows = _lines(tmp_path / "a.jsonl", [{"a": 1}, {"a": 2}, {"a": 2.5, "b": {"c": 1}}, {"b": {"d": chat}}])
    features = features_of(rows)
    save_rows(tmp_path / "out", rows, features, {"extra": "bool"})
    read = load_from_disk(tmp_path / "out")
    assert read.column_names == ["a", "b", "extra"] and read["a"] == [1.0, 2.0, 2.5, None]
    assert read[2:]["b"] == [{"c": 1, "d": None}, {"c": None, "d": chat}]
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "out"}


def test_the_types_of_a_table_stay(tmp_path):
    features = Features({"label": ClassLabel(names=["no", "yes"]), "text": Value("large_string")})
    Dataset.from_dict({"label": [0, 1], "text": ["a", "b"]}, features=features).save_to_disk(tmp_path / "in")
    rows = open_rows(tmp_path / "in")
    save_rows(tmp_path / "out", rows, features_of(rows))
    assert load_from_disk(tmp_path / "out").features == features


def test_what_makes_no_table_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"a.jsonl do not make a table .*; use --format jsonl") as caught:
        features_of(_lines(tmp_path / "a.jsonl", [{"a": 1}, {"a": "x"}]))
    assert "\n" not in str(caught.value)


def test_what_json_cannot_hold_is_found_by_its_type(tmp_path):
    row = {"a": 1, "b": ["x", None], "c": {"d": 1.5}, "when": datetime(2020, 1, 2), "deep": [{"raw": b"x"}]}
    pyarrow.parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert unfit_for_json(open_rows(tmp_path / "a.parquet")) == ["when", "deep"]
    assert unfit_for_json(_lines(tmp_path / "a.jsonl", [{"a": 1}])) == []
