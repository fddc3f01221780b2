import os
from pathlib import Path

import pytest

from moored.errors import InputError
from moored.files import refuse_non_empty, require_place, whole_file


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
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match="may not be written to"):
        require_place(tmp_path / "a" / "b")
    assert not [*tmp_path.iterdir()]


def test_refuse_non_empty_accepts_what_is_absent_or_empty(tmp_path):
    refuse_non_empty(tmp_path)
    refuse_non_empty(tmp_path / "absent")
