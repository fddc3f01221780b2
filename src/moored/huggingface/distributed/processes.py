"""The processes of a run: how many there are, which one this is, and what they tell one another.

A run of one process gets the same answers as if nobody had asked: its own values back.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

T = TypeVar("T")


def process_count() -> int:
    """The number of processes that train together."""
    return PartialState().num_processes


def process_index() -> int:
    """The number of this process, from 0."""
    return PartialState().process_index


def is_main_process() -> bool:
    """Whether this process is the one that writes files."""
    return PartialState().is_main_process


def wait_for_everyone() -> None:
    """Returns once every process has called it."""
    PartialState().wait_for_everyone()


def of_main_process(value: T) -> T:
    """Returns the main process's value in every process; all of them must call it."""
    return broadcast_object_list([value])[0]


def gathered(values: list[T]) -> list[T]:
    """Returns the values of all processes in one list, in the order of the processes; all of them must call it."""
    return gather_object(values)


def any_process(fact: bool) -> bool:
    """Returns whether something holds in at least one process; all of them must call it."""
    return any(gathered([fact]))


def in_step(items: Iterable[T]) -> Iterator[T | None]:
    """Yields equally often in every process, and None where a process has run out of items.

    What is gathered inside the loop then finds all processes there.
    """
    for item in chain(items, repeat(None)):
        if not any_process(item is not None):
            return
        yield item
