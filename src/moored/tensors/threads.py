"""Products that are too small to be shared among a CPU's threads."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 2**21
"""Entries of a matrix up to which handing its product with a few columns to a second thread gained nothing (tried on
two cores; our choice)."""


@contextmanager
def one_thread(*, when: bool = True) -> Iterator[None]:
    """Computes with one thread of the CPU, and with as many as before afterwards.

    Args:
        when: whether it does anything at all.
    """
    before = torch.get_num_threads()
    if when:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if when:
            torch.set_num_threads(before)
