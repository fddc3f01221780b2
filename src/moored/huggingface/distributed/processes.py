"""What the processes of a run must agree on."""

from typing import TypeVar

from accelerate.utils import broadcast_object_list

T = TypeVar("T")


def of_main_process(value: T) -> T:
    """The main process's value, in every process; each calls it, and a run of one gets its own back."""
    return broadcast_object_list([value])[0]
