"""Examples whose mean gradient is a direction, and their losses one by one."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from moored.embedded.prompts import openings, ordinary_instructions
from moored.huggingface.gradients.example_loss import example_loss
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread

Example = tuple[str, str]
"""A prompt and its answer."""
_WORDS = 8
"""Of an ordinary answer, which then is about as long as an opening."""


def refused(count: int) -> list[Example]:
    """Harmful requests that are refused."""
    refusals = openings().refusals
    return [(each, refusals[number % len(refusals)]) for number, each in enumerate(_requests(count))]


def complied_with(count: int) -> list[Example]:
    """The same with a compliant opening in the place of a harmful answer."""
    complying = openings().complying
    return [(each, complying[number % len(complying)]) for number, each in enumerate(_requests(count))]


def ordinary(count: int) -> list[Example]:
    """Ordinary instructions with the beginning of an answer."""
    answered = [item for item in ordinary_instructions("align") if item.answer]
    return [(item.prompt, " ".join((item.answer or "").split()[:_WORDS])) for item in spread(answered, count)]


def mean_loss(model: Any, tokenizer: Any, examples: Sequence[Example]) -> Callable[[], Iterator[Tensor]]:
    """The mean loss of the examples, in parts that add up to it."""
    losses = [example_loss(model, tokenizer, *each) for each in examples]
    return lambda: (each() / len(losses) for each in losses)


def _requests(count: int) -> list[str]:
    return [pair.harmful for pair in spread(unpooled_pairs(), count)]
