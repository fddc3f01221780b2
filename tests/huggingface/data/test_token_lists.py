import json

import pytest

from moored.errors import InputError
from moored.huggingface.data import read_token_texts

TEXTS = (" cannot", "Sorry", "'t", " não")


def test_a_list_of_objects_gives_its_texts_and_nothing_else_counts(tmp_path):
    file = tmp_path / "safety_tokens.json"
    file.write_text(json.dumps([{"text": text, "id": -1, "note": "mine"} for text in TEXTS]), encoding="utf-8")
    assert read_token_texts(file) == TEXTS


def test_a_list_of_texts_will_do(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps([*TEXTS[:2], {"text": "'t"}, TEXTS[3]]), encoding="utf-8")
    assert read_token_texts(str(file)) == TEXTS


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_plain_file_has_one_token_a_line_and_keeps_leading_spaces(tmp_path, end):
    file = tmp_path / "tokens.txt"
    file.write_bytes(end.join([*TEXTS[:2], "", *TEXTS[2:], "  ", ""]).encode())
    assert read_token_texts(file) == TEXTS


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tokens.json", "[]", "lists no tokens"),
        ("tokens.txt", "\n \n", "lists no tokens"),
        ("tokens.json", '["no", {"txt": "not"}]', "entry 2 has no text"),
        ("tokens.json", '["no", ""]', "entry 2 has no text"),
        ("tokens.json", "[3]", "entry 1 has no text"),
        ("tokens.json", '{"text": "no"}', "is no JSON list"),
        ("tokens.json", '[\n"no"\n"not"]', "is not valid JSON: .* in line 3"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}.* ?{message}"):
        read_token_texts(tmp_path / name)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_token_texts(tmp_path / "none.json")
