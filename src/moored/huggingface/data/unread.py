"""What a row says and no token shows: keys of messages, and columns, that nothing reads."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from moored.errors import UserError
from moored.huggingface.data.formats import Row
from moored.huggingface.data.messages import WEIGHTS

TRIED = 5
"""The number of rows in which a key is tried, for a template may read it in some only."""
_MESSAGES = ("messages", "prompt", "completion")
_COLUMNS = ("tools", "chat_template_kwargs", "system", *WEIGHTS)
"""The columns that a user may expect to be read beside the messages."""


class Key(NamedTuple):
    """A key of the messages of a role, or a column, whose role is empty."""

    role: str
    name: str

    def __str__(self) -> str:
        if not self.role:
            return f"the column {self.name}"
        return f"{self.name} of the role {self.role}"


def rows_to_try(rows: Iterable[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """The numbered rows that have a key which fewer than `TRIED` of the rows before them have."""
    seen, chosen = Counter[Key](), []
    for number, row in rows:
        new = {key for key in _keys_of(row) if seen[key] < TRIED}
        if new:
            seen.update(new)
            chosen.append((number, row))
    return chosen


@dataclass
class UnreadKeys:
    """The keys without which rows become the same tokens, by trials in some of the rows."""

    rows: dict[Key, int] = field(default_factory=dict)
    """The number of a row that has the key."""
    _tries: Counter[Key] = field(default_factory=Counter)

    def try_out(self, rows: Iterable[tuple[int, Row]], tokens: Callable[[Row], Any]) -> None:
        """Tries the keys of further rows.

        What users and the assistant say is left out, for a rendering that lacks it is refused; and so is what says
        whether a turn is learned.

        Args:
            rows: the rows as they were written, with their numbers.
            tokens: what becomes of a row.
        """
        for number, row in rows:
            for key in {key: None for key in _keys_of(row) if self._tries[key] < TRIED}:
                self._tries[key] += 1
                self.rows.setdefault(key, number)
                if _matters(key, row, tokens):
                    self._tries[key] = TRIED
                    del self.rows[key]


def _keys_of(row: Row) -> Iterator[Key]:
    yield from (Key("", name) for name in _COLUMNS if row.get(name) is not None)
    for message in _messages_of(row):
        role = str(message.get("role"))
        said = ("content",) if role in ("user", "assistant") else ()
        passed_over = ("role", *WEIGHTS, *said)
        yield from (Key(role, name) for name, value in message.items() if value is not None and name not in passed_over)


def _messages_of(row: Row) -> Iterator[Mapping[str, Any]]:
    for column in _MESSAGES:
        if isinstance(row.get(column), list):
            yield from (message for message in row[column] if isinstance(message, dict))


def _matters(key: Key, row: Row, tokens: Callable[[Row], Any]) -> bool:
    """Whether a row becomes other tokens without a key; a row that is refused is refused later, by its number."""
    try:
        return tokens(row) != tokens(_without(key, row))
    except UserError:
        return True


def _without(key: Key, row: Row) -> Row:
    if not key.role:
        return {name: value for name, value in row.items() if name != key.name}
    return {
        name: _each_without(key, value) if name in _MESSAGES and isinstance(value, list) else value
        for name, value in row.items()
    }


def _each_without(key: Key, messages: Sequence[Any]) -> list[Any]:
    """Messages whose key is taken out; a content has to stay, and is made empty."""
    other = {key.name: ""} if key.name == "content" else {}
    return [
        {**{name: value for name, value in message.items() if name != key.name}, **other}
        if isinstance(message, dict) and str(message.get("role")) == key.role
        else message
        for message in messages
    ]
