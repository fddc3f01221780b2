"""What generation and scoring share: batches of like length, and a model left as it was found."""

from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from itertools import groupby

import torch
from transformers import PreTrainedTokenizerBase

Ids = list[int]


def by_length(texts: Sequence[Sized], batch_size: int) -> list[list[int]]:
    """Row numbers in batches, longest texts first, so that the largest batch fails first if it does not fit."""
    order = sorted(range(len(texts)), key=lambda row: (-len(texts[row]), row))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def of_one_length(texts: Sequence[Sized], most: int) -> Iterator[list[int]]:
    """Yields row numbers in batches whose texts are equally long, the longest first: those need no padding."""
    order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
    for _, equal in groupby(order, key=lambda row: len(texts[row])):
        rows = list(equal)
        yield from (rows[at : at + most] for at in range(0, len(rows), most))


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[Ids]:
    """Tokenizes each text; special tokens are not added, since a rendered prompt has them."""
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switches a model to eval mode and puts every module back into its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
