import pytest

from moored.errors import first_line


@pytest.mark.parametrize(
    ("message", "line"), [(" A file is missing.\nTrace", "A file is missing"), ("", "OSError"), (" \n", "OSError")]
)
def test_an_error_of_a_library_becomes_part_of_a_sentence(message, line):
    assert first_line(OSError(message)) == line
