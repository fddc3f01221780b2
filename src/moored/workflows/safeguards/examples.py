"""Examples for `HarmfulDirection` where the user has none."""

from itertools import cycle

from moored.embedded.prompts import openings, request_pairs
from moored.workflows.inputs.prompt_sets import spread

_COUNT = 32


def harmful_examples() -> tuple[tuple[str, str], ...]:
    """Embedded harmful requests, each with the opening of a compliant answer and no more of it."""
    requests = [pair.harmful for pair in spread(request_pairs("align"), _COUNT)]
    return tuple(zip(requests, cycle(openings().complying), strict=False))
