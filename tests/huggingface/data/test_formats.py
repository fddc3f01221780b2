import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from moored.errors import InputError
from moored.huggingface.data import stored_dataset
from moored.huggingface.data.stream import read_rows

ROWS = [{"prompt": "1", "completion": "one"}, {"prompt": "2", "completion": 'two,\n"zwei"'}]


def _write(path):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".csv":
        path.write_text('prompt,completion\n1,one\n2,"two,\n""zwei"""\n')
    elif path.name == "array.json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "array.json", "lines.json", "rows.parquet", "ROWS.csv"])
def test_every_format_gives_the_same_rows(tmp_path, name):
    if name == "ROWS.csv":
        (tmp_path / "ROWS.CSV").write_text(_write(tmp_path / "rows.csv").read_text())
        assert read_rows(tmp_path / "ROWS.CSV") == ROWS
    else:
        assert read_rows(str(_write(tmp_path / name))) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.jsonl", None, "There is no file"),
        ("empty.jsonl", "", "is empty"),
        ("blank.jsonl", "\n\n", "holds no rows"),
        ("broken.jsonl", '{"a": 1}\n\n{"a": \n', "line 3 is not valid JSON"),
        ("broken.json", '[{"a": 1},\n{"a": ]', "line 2 is not valid JSON"),
        ("list.json", '[{"a": 1}, 2]', "Row 2 of .* is not a JSON object"),
        ("half.jsonl", '{"a": "x"}\n{"a": "\\ud83d"}\n', "Row 2 of .* holds half a character"),
        ("twice.csv", "a,a\n1,2\n", "has the column a twice"),
        ("mark.csv", "\ufeff", "not a valid CSV file"),
        ("broken.csv", "a,b\n1,2\n1,2,3\n", "Row #3"),
        ("headers.csv", "a,b\n", "holds no rows"),
        ("broken.parquet", "PAR?", "not a valid Parquet file"),
        ("rows.txt", "a", "unknown type"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, name, content, sentence):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=sentence) as caught:
        read_rows(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_no_data_file(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_rows(tmp_path)


def test_a_folder_of_datasets_is_read_as_it_was_written(tmp_path):
    rows = [{"prompt": "1", "x": [{"a": {"b": 1}}, {"a": {"c": "d"}}]}, {"prompt": "2", "x": [{"a": {"b": "text"}}]}]
    Dataset.from_list(rows, on_mixed_types="use_json").save_to_disk(tmp_path / "one")
    assert read_rows(tmp_path / "one") == rows


def test_of_a_folder_with_several_splits_one_is_read(tmp_path):
    splits = {"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])}
    DatasetDict(splits).save_to_disk(tmp_path / "two")
    assert read_rows(tmp_path / "two", split="test") == ROWS[:1]
    with pytest.raises(InputError, match="has no split other; its splits are train, test"):
        read_rows(tmp_path / "two", split="other")
    (tmp_path / "two" / "train" / "state.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as `datasets` saves it") as caught:
        read_rows(tmp_path / "two")
    assert "\n" not in str(caught.value)


def test_columns_that_only_later_rows_have_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "1"}\n{"prompt": "2", "unfinished": true}\n')
    assert [row["unfinished"] for row in read_rows(tmp_path / "rows.jsonl")] == [None, True]


def test_columns_of_json_may_mix_types(tmp_path):
    rows = [{"a": "x", "b": 1}, {"a": 1, "b": int("9" * 30)}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_what_is_no_file_is_asked_of_the_hub(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        raise ConnectionError("no network\nmore")

    monkeypatch.setattr(stored_dataset, "load_dataset", load_dataset)
    with pytest.raises(InputError, match=r"neither a file here nor a dataset .*\(no network\)"):
        read_rows("org/name", split="test")
    assert asked == [("org/name", "test")]
