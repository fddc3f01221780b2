"""Two processes never write one folder at once."""

from pathlib import Path

import pytest

from moored.errors import InputError
from moored.sole_writer import sole_writer


def test_a_second_writer_is_told_of_the_first(tmp_path: Path) -> None:
    with sole_writer(tmp_path / "out"):
        same, sentence = tmp_path / "a" / ".." / "out", r"Another moored process is writing to .*out; wait"
        with pytest.raises(InputError, match=sentence), sole_writer(same):
            pass
        with sole_writer(tmp_path / "other"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_folder_is_free_again_whatever_came_of_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sole_writer(tmp_path):
        _ = 1 / 0
    with sole_writer(tmp_path):
        pass
