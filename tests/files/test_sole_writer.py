"""Two processes never write one folder at once."""

from pathlib import Path

import pytest

from moored.errors import InputError
from moored.files import sole_writer


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


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    for name in (
        ".out.moored-abcd1234",
        ".out.moored-abcd1234.old",
        "out",
        ".out.partial",
        ".output.moored-abcd1234",
        "out.partial",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / ".out.moored-efgh5678").write_text("a part")
    with sole_writer(tmp_path / "out"):
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            ".out.partial",
            ".output.moored-abcd1234",
            "out",
            "out.partial",
        ]


def test_an_output_that_was_half_replaced_is_put_back(tmp_path: Path) -> None:
    """The kill came after the old output was moved away and before the new one took its place."""
    for name in (".out.moored-abcd1234", ".out.moored-abcd1234.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(name)
    with sole_writer(tmp_path / "out"):
        assert [each.name for each in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "report.json").read_text() == ".out.moored-abcd1234.old"
