import json

import pytest

from moored.errors import InputError
from moored.files import read_jsonl, read_text, sha256_of


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no rows"),
        (b"\n  \n", "holds no rows"),
        (b'{"a": 1}\n{"a": \n', "line 2 is not valid JSON: Expecting value at column 6"),
        (b'{"a": 1}\n{"a": "b\n', "line 2 is not valid JSON: Unterminated string starting at column 7"),
        (b'{"a": 1}\n\n[1]\n', "line 3 is not a JSON object"),
        (b'{"a": "\xff"}\n', "is not UTF-8"),
    ],
)
def test_a_broken_jsonl_file_is_named_with_its_line(tmp_path, content, sentence):
    (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=sentence) as raised:
        read_jsonl(tmp_path / "rows.jsonl")
    assert "rows.jsonl" in str(raised.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_text(tmp_path / "absent")
    with pytest.raises(InputError, match="is a folder"):
        read_text(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="Cannot read"):
        read_text(tmp_path / "file" / "below")


def test_windows_line_ends_and_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\r\n')
    assert read_jsonl(tmp_path / "rows.jsonl") == [{"a": 1}, {"a": 2}]


def test_separators_inside_a_string_end_no_row(tmp_path):
    """Also where another program wrote them unescaped, as JSON allows."""
    row = {"text": "a\u2028b\u2029c\x85d"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_jsonl(tmp_path / "rows.jsonl") == [row]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
