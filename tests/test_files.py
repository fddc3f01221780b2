import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moored import files
from moored.errors import InputError
from moored.files import (
    read_jsonl,
    read_text,
    refuse_non_empty,
    require_place,
    sha256_of,
    whole_file,
    whole_folder,
    write_json,
    write_jsonl,
)
from moored.outputs import OwnOutput


def _names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class Stop(BaseException):
    """As a Ctrl-C: no ordinary exception."""


def test_a_file_appears_whole(tmp_path):
    with whole_file(tmp_path / "new" / "a.txt") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "half"
    assert _names(tmp_path) == ["new", "new/a.txt"]
    assert (tmp_path / "new" / "a.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("failure", [Stop, ValueError])
def test_a_file_that_failed_leaves_the_old_one_and_nothing_else(tmp_path, failure):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(failure), whole_file(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        raise failure
    assert _names(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.parametrize("failure", [Stop, ValueError])
def test_a_folder_that_failed_leaves_nothing_not_even_its_parents(tmp_path, failure):
    with pytest.raises(failure), whole_folder(tmp_path / "a" / "b" / "out") as temporary:
        (temporary / "half").write_text("half")
        raise failure
    assert _names(tmp_path) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused_and_leaves_the_old_file(tmp_path, number):
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(InputError, match=r"a\.json is not written, since one of its numbers is NaN or infinite.*\.$"):
        write_json(tmp_path / "a.json", {"deep": [{"loss": number}]})
    assert _names(tmp_path) == ["a.json"] and json.loads((tmp_path / "a.json").read_text()) == {"loss": 1.0}


def test_a_folder_appears_whole_with_ordinary_permissions(tmp_path):
    with whole_folder(tmp_path / "out") as temporary:
        (temporary / "inner").mkdir(mode=0o700)
        (temporary / "inner" / "secret").touch(mode=0o600)
        assert not (tmp_path / "out").exists()
    assert _names(tmp_path) == ["out", "out/inner", "out/inner/secret"]
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "out", *sorted((tmp_path / "out").rglob("*")))]
    assert modes == [0o755, 0o755, 0o644]


def test_a_non_empty_folder_is_refused_and_replaced_only_when_asked(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(InputError, match="not empty"), whole_folder(out):
        pass
    with pytest.raises(Stop), whole_folder(out, overwrite=True):
        raise Stop
    assert _names(tmp_path) == ["out", "out/old"]
    with whole_folder(out, overwrite=True) as temporary:
        (temporary / "new").write_text("new")
    assert _names(tmp_path) == ["out", "out/new"]


def test_what_came_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="not empty"), whole_folder(out) as temporary:
        (temporary / "new").write_text("new")
        out.mkdir()
        (out / "theirs").write_text("dear")
    assert _names(tmp_path) == ["out", "out/theirs"]
    # In the moment between the look and the renaming.
    monkeypatch.setattr(files, "refuse_non_empty", lambda folder: None)
    with pytest.raises(InputError, match=r"^Cannot write .*out: Directory not empty"), whole_folder(out):
        pass
    assert _names(tmp_path) == ["out", "out/theirs"]


def test_what_came_meanwhile_is_only_overwritten_where_it_is_the_command_s_own(tmp_path):
    own, out = OwnOutput(record="record.json", kind="mine"), tmp_path / "out"
    out.mkdir()
    write_json(out / "record.json", {"kind": "mine"})
    with pytest.raises(InputError, match="it holds theirs"), whole_folder(out, overwrite=True, own=own):
        (out / "theirs").write_text("dear")
    assert _names(tmp_path) == ["out", "out/record.json", "out/theirs"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_lands_where_a_link_leads(tmp_path, there):
    target, link = tmp_path / "other disk" / "out", tmp_path / "out"
    if there:
        target.mkdir(parents=True)
    link.symlink_to(target)
    with whole_folder(link) as temporary:
        assert temporary.parent == target.parent
        (temporary / "new").write_text("new")
    assert link.is_symlink() and (target / "new").read_text() == "new"


def test_the_working_folder_can_be_the_target(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with whole_folder(Path(".")) as temporary:
        (temporary / "a").write_text("a")
    assert _names(tmp_path) == ["here", "here/a"]
    assert Path("a").read_text() == "a"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    sentence = r"^Cannot write .*out: No space left on device; free space"
    with pytest.raises(InputError, match=sentence), whole_folder(tmp_path / "out") as temporary:
        (temporary / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(InputError, match="No space left"), whole_file(tmp_path / "file") as temporary:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
    out = whole_folder(tmp_path / "out")
    with pytest.raises(InputError, match=sentence), out as temporary, whole_file(temporary / "inside") as half:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(half))
    assert _names(tmp_path) == []


def test_a_disk_that_fills_between_two_parents_leaves_neither(tmp_path, monkeypatch):
    make = os.mkdir

    def full_below_one(path, *rest):
        if Path(path).parent != tmp_path and Path(path).parent.is_dir():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        make(path, *rest)

    monkeypatch.setattr(os, "mkdir", full_below_one)
    with pytest.raises(InputError, match="No space left"), whole_file(tmp_path / "a" / "b" / "out"):
        pass
    assert _names(tmp_path) == []


def test_a_place_where_nothing_can_be_made_is_one_sentence(tmp_path, monkeypatch):
    """As below /proc, where even root is told that there is no such folder."""

    def nowhere(dir, prefix):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{dir}/{prefix}x")

    monkeypatch.setattr(files.tempfile, "mkdtemp", nowhere)
    sentence = r"^Cannot write .*out: No such file or directory"
    with pytest.raises(InputError, match=sentence), whole_folder(tmp_path / "out"):
        pass


def test_a_file_that_is_only_read_inside_the_block_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(PermissionError), whole_folder(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "denied", str(tmp_path / "model" / "config.json"))
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "missing").read_text()


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        with pytest.raises(InputError, match=r"^Cannot write .*out: .*file is a file; name another"):
            require_place(target)
        with pytest.raises(InputError, match="Cannot write"), whole_file(target):
            pass
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is a file, but a folder"):
            require_place(tmp_path / "file", overwrite=overwrite)


def test_a_folder_that_may_not_be_written_to_is_found_out_early(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match="may not be written to"):
        require_place(tmp_path / "a" / "b")
    assert _names(tmp_path) == []


def test_refuse_non_empty_accepts_what_is_absent_or_empty(tmp_path):
    refuse_non_empty(tmp_path)
    refuse_non_empty(tmp_path / "absent")


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


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
