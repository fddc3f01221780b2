import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import Dataset, NamedSplit, load_from_disk

from moored.errors import InputError
from moored.huggingface.data import formats, open_rows, read_rows, stored_dataset, stream

ROWS = [{"prompt": str(n), "completion": f'{n},\n"{n}"'} for n in range(7)]


def _write(path):
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3)
    elif path.suffix == ".csv":
        lines = ['{},"{}"\n'.format(row["prompt"], row["completion"].replace('"', '""')) for row in ROWS]
        path.write_text("prompt,completion\n" + "".join(lines))
    elif path.name == "array.json":
        path.write_text(json.dumps(ROWS))
    elif not path.suffix:
        Dataset.from_list(ROWS).save_to_disk(path)
    else:
        path.write_text("\n\n".join(map(json.dumps, ROWS)) + "\n")
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "array.json", "lines.json", "a.parquet", "a.csv", "folder"])
def test_every_format_streams_the_rows_that_are_read_at_once(tmp_path, monkeypatch, name):
    monkeypatch.setattr(stream, "_BLOCK", 2)
    rows = open_rows(_write(tmp_path / name))
    assert list(rows) == list(rows) == read_rows(tmp_path / name) == ROWS
    assert (rows.count, rows.columns) == (7, ["prompt", "completion"])
    assert [len(chunk) for chunk in rows.chunks(3)] == [3, 3, 1]
    assert [row for chunk in rows.chunks(3) for row in chunk] == ROWS


@pytest.mark.parametrize("name", ["array.json", "lines.json"])
def test_structures_in_json_are_streamed_as_they_are_written(tmp_path, name):
    rows = [{"messages": [{"role": "user", "content": "Hi", "x": None}]}, {"messages": [{"role": "user"}]}]
    lines = "\n".join(map(json.dumps, rows))
    (tmp_path / name).write_text(json.dumps(rows) if name == "array.json" else lines)
    assert list(open_rows(tmp_path / name)) == rows


@pytest.mark.parametrize("name", ["a.jsonl", "array.json", "a.parquet", "a.csv", "folder"])
def test_the_hash_tells_other_data(tmp_path, monkeypatch, name):
    (tmp_path / "x").mkdir()
    one, same = (open_rows(_write(folder / name)).sha256 for folder in (tmp_path, tmp_path / "x"))
    monkeypatch.setitem(ROWS[5], "prompt", "other")
    (tmp_path / "y").mkdir()
    assert one == same != open_rows(_write(tmp_path / "y" / name)).sha256


def test_rows_of_csv_may_lie_across_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_CSV_BLOCK", 40)
    assert list(open_rows(_write(tmp_path / "a.csv"))) == ROWS


def test_no_file_is_read_by_what_reads_it_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "read_text", None)
    monkeypatch.setattr(pyarrow.parquet, "read_table", None)
    for name in ("a.jsonl", "a.parquet", "a.csv"):
        assert next(open_rows(_write(tmp_path / name)).chunks(2)) == ROWS[:2]


def test_chunks_are_as_the_file_has_them_and_rows_as_the_table_does(tmp_path):
    rows = [{"x": [{"a": 1}, {"b": 2}]}, {"x": None}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    opened = open_rows(tmp_path / "a.parquet")
    assert list(opened.chunks(5)) == [rows] and opened.take([1]) == rows[1:]
    assert next(iter(opened)) == {"x": [{"a": 1, "b": None}, {"a": None, "b": 2}]}


def test_a_saved_folder_is_memory_mapped(tmp_path, monkeypatch):
    asked, load = [], stored_dataset.load_from_disk
    monkeypatch.setattr(stored_dataset, "load_from_disk", lambda *given, **more: asked.append(more) or load(*given))
    assert open_rows(_write(tmp_path / "folder")).count == 7 and asked == [{}]


def test_the_hash_tells_two_parts_of_one_file(tmp_path, monkeypatch):
    rows = load_from_disk(_write(tmp_path / "folder"))
    parts = {split: Dataset(rows.data.slice(at, 3), split=NamedSplit(split)) for at, split in ((0, "a"), (3, "b"))}
    monkeypatch.setattr(stored_dataset, "load_dataset", lambda name, split: parts[split])
    one, other = (open_rows("org/name", split=split) for split in parts)
    assert list(one) != list(other) and one.sha256 != other.sha256


def test_columns_are_those_of_all_rows_and_a_row_keeps_its_own(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": "x", "b": 1.0}\n')
    rows = open_rows(tmp_path / "a.jsonl")
    assert rows.columns == ["a", "b"] and list(rows) == [{"a": 1}, {"a": "x", "b": 1.0}]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("missing.jsonl", None, "There is no file"),
        ("empty.jsonl", b"", "is empty"),
        ("blank.jsonl", b"\n\n", "holds no rows"),
        ("broken.jsonl", b'{"a": 1}\n\n{"a": \n', "line 3 is not valid JSON"),
        ("list.jsonl", b'{"a": 1}\n[]\n', "line 2 is not a JSON object"),
        ("bytes.jsonl", b'{"a": 1}\n{"a": "\xff"}\n', r"is not UTF-8 text \(byte 16\)"),
        ("twice.csv", b"a,a\n1,2\n", "has the column a twice"),
        ("broken.csv", b"a,b\n1,2\n1,2,3\n", "Row #3"),
        ("bytes.csv", b"a,b\n1,\xff\n", "not a valid CSV file"),
        ("headers.csv", b"a,b\n", "holds no rows"),
        ("broken.parquet", b"PAR?", "not a valid Parquet file"),
        ("broken.json", b'[{"a": 1},\n{"a": ]', "line 2 is not valid JSON"),
        ("rows.txt", b"a", "unknown type"),
        ("folder", b"", "is a folder"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path, name, content, sentence):
    if name == "folder":
        (tmp_path / name).mkdir()
    elif content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        list(open_rows(tmp_path / name))
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_file_is_asked_of_the_hub(monkeypatch):
    rows = Dataset.from_list(ROWS)
    monkeypatch.setattr(
        stored_dataset, "load_dataset", lambda name, split: rows if (name, split) == ("org/name", "test") else None
    )
    assert list(open_rows("org/name", split="test")) == ROWS
