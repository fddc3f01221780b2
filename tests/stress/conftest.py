"""The long runs on request, and what they have shown for `results/stress/`."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis.strategies import SearchStrategy

from moored.errors import UserError

FEW = 20
"""The inputs of each kind that are made where the long runs are not asked for."""


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Appends what a test has counted to the file of `--stress-results`."""

    def write(**counted: Any) -> None:
        file = request.config.getoption("--stress-results")
        if file is not None:
            with (request.config.invocation_params.dir / file).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(counted, ensure_ascii=False) + "\n")

    return write


@pytest.fixture
def read_made(request: pytest.FixtureRequest, record: Callable[..., None]) -> Callable[..., None]:
    """Reads made inputs of one kind: each is taken, or refused in one sentence; anything else fails the test.

    Args of what is returned:
        kind: what is made, as the table names it.
        inputs: the strategy.
        read: what is done with each.
        count: how many are made where the long runs are asked for.
    """

    def run(kind: str, inputs: SearchStrategy[Any], read: Callable[[Any], object], *, count: int) -> None:
        outcomes = {"read": 0, "refused": 0}
        most = count if request.config.getoption("--stress") else FEW

        # An input that fails is shown as it is: to make it smaller takes longer than to make all.
        phases = [Phase.explicit, Phase.generate]

        @settings(max_examples=most, derandomize=True, database=None, deadline=None, phases=phases)
        @given(inputs)
        def each(value: Any) -> None:
            outcomes[_outcome(read, value)] += 1

        each()
        record(test="made inputs", kind=kind, **outcomes)

    return run


def _outcome(read: Callable[[Any], object], value: Any) -> str:
    try:
        read(value)
    except UserError as error:
        sentence = str(error)
        assert sentence and "\n" not in sentence and len(sentence) < 1000, sentence
        return "refused"
    return "read"
