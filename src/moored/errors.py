"""The exceptions a user can meet.

MooredError
├── UserError            the user can fix it: one sentence, exit code 2
│   ├── InputError       a file, a row, a setting
│   ├── ModelError       a model, adapter or tokenizer that does not fit
│   ├── InactiveError    a safeguard that would do nothing
│   └── DivergedError    a training whose numbers are no longer finite
└── GateError            safety fell by more than was allowed: exit code 3
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MooredError(Exception):
    """The root of all errors that moored raises on purpose."""

    exit_code = 1


class UserError(MooredError):
    """Something the user can put right; its message is one sentence that says what, where and how, in one line."""

    exit_code = 2

    def __init__(self, sentence: str = "") -> None:
        # A name or a value that it quotes may hold ends of lines.
        super().__init__("␊".join(sentence.splitlines()))


class InputError(UserError, ValueError):
    """A file, a row or a setting is wrong."""


class ModelError(UserError, ValueError):
    """A model, an adapter or a tokenizer does not fit what was asked of it."""


class InactiveError(UserError, RuntimeError):
    """A safeguard matched nothing, or stayed at zero, and would silently protect nothing."""


class DivergedError(UserError, ArithmeticError):
    """A training came to a loss or to weights that are NaN or infinite."""


class GateError(MooredError):
    """Safety fell by more than was allowed."""

    exit_code = 3


def first_line(error: Exception) -> str:
    """What an exception says, in one line without a full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip().rstrip(".: ")


@contextmanager
def blaming(source: object) -> Iterator[None]:
    """Puts the file or the setting that is to blame before the sentence of an InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from (error.__cause__ or error)
