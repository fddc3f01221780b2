"""One kind of thing that people bring, as a case of the conformance tests and as a row of `docs/compatibility.md`."""

from typing import Any, Literal

import pytest

Outcome = Literal["works", "limited", "refused"]


def case(kind: str, *values: Any, outcome: Outcome = "works", note: str = "", fast: bool = False) -> Any:
    """Returns a parameter of a conformance test.

    Args:
        kind: what a user brings, as they would look it up.
        values: the arguments of the test.
        outcome: what the test shows: that it works, that it works within the limit that `note` tells, or that one
            sentence refuses it.
        note: what a user should know besides.
        fast: whether the case runs in `make test`, too, and not in `make conformance` alone.
    """
    return pytest.param(
        *values, id=kind, marks=pytest.mark.conformance(kind=kind, outcome=outcome, note=note, fast=fast)
    )
