import errno
import os
import tempfile
from pathlib import Path

import pytest

from moored.errors import InputError
from moored.files import place, whole_file, whole_folder, write_json
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
    monkeypatch.setattr(place, "refuse_non_empty", lambda folder: None)
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

    monkeypatch.setattr(tempfile, "mkdtemp", nowhere)
    sentence = r"^Cannot write .*out: No such file or directory"
    with pytest.raises(InputError, match=sentence), whole_folder(tmp_path / "out"):
        pass


def test_a_file_that_is_only_read_inside_the_block_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(PermissionError), whole_folder(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "denied", str(tmp_path / "model" / "config.json"))
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "out"):
        (tmp_path / "missing").read_text()
