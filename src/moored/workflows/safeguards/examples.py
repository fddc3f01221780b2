"""The embedded examples for `HarmfulDirection`, used where the user names none."""

from itertools import cycle

from moored.embedded.prompts import openings, request_pairs
from moored.workflows.inputs.prompt_sets import spread

_COUNT = 32


def harmful_examples() -> tuple[tuple[str, str], ...]:
    """Returns embedded harmful requests, each with only the response prefix of a compliant answer."""
    requests = [pair.harmful for pair in spread(request_pairs("align"), _COUNT)]
    return tuple(zip(requests, cycle(openings().complying), strict=False))
