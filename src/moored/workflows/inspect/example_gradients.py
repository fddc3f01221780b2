"""Examples whose mean gradient is a direction, and their mean loss in parts."""

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

from torch import Tensor

from moored.embedded.prompts import openings, ordinary_instructions
from moored.huggingface.gradients.example_loss import example_loss
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread

Example = tuple[str, str]
"""A prompt and its answer."""
_WORDS = 8
"""The number of words of an ordinary answer, which is then about as long as a response prefix."""


def refused(count: int) -> list[Example]:
    """Pairs harmful requests with refusals."""
    return list(zip(_requests(count), cycle(openings().refusals), strict=False))


def complied_with(count: int) -> list[Example]:
    """Pairs the same requests with compliant response prefixes; no harmful answer is needed."""
    return list(zip(_requests(count), cycle(openings().complying), strict=False))


def ordinary(count: int) -> list[Example]:
    """Pairs ordinary instructions with the beginnings of their answers."""
    answered = [item for item in ordinary_instructions("align") if item.answer]
    return [(item.prompt, " ".join((item.answer or "").split()[:_WORDS])) for item in spread(answered, count)]


def mean_loss(model: Any, tokenizer: Any, examples: Sequence[Example]) -> Callable[[], Iterator[Tensor]]:
    """Computes the mean loss of the examples, in parts that add up to it."""
    losses = [example_loss(model, tokenizer, *example) for example in examples]
    return lambda: (loss() / len(losses) for loss in losses)


def _requests(count: int) -> list[str]:
    return [pair.harmful for pair in spread(unpooled_pairs(), count)]
