"""The choice of a strategy: the fastest one that gets the logits of a model right, found by a trial of each."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from moored.huggingface.inference.batches import Ids
from moored.huggingface.inference.decoding import can_decode
from moored.huggingface.inference.greedy import plainly_greedy
from moored.huggingface.inference.shared_start import NOTHING, SharedStart, encode_shared_start
from moored.huggingface.inference.strategies import (
    Generation,
    Strategy,
    batches_of_one_length,
    continuous_batch,
    padded_batches,
    reading_whole,
)
from moored.huggingface.inference.trials import agree, passes_over_padding, tried

_BEGINNING, _TRIED = 10, 2
"""The number of tokens of a prompt, and of its answer, on which a strategy is tried."""


def choose_strategy(model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids]) -> Strategy:
    """Chooses the fastest strategy that gets the logits of a model right."""
    trial = _StrategyTrial(model, tokenizer, prompts[0])
    can_pad = passes_over_padding(model, prompts[0])
    if can_pad and can_decode(model, prompts[0][0]) and trial.passes("decoding", continuous_batch):
        return continuous_batch
    if can_pad and trial.passes("padded batches", padded_batches):
        return padded_batches
    return batches_of_one_length if trial.passes("batches", batches_of_one_length) else reading_whole


class _StrategyTrial:
    """Compares strategies with the slowest one on two beginnings of a prompt, of one start and different lengths."""

    def __init__(self, model: Any, tokenizer: Any, prompt: Ids) -> None:
        self._model, self._tokenizer = model, tokenizer
        start = prompt[:_BEGINNING]
        one, other = start[0], start[-1] if start[-1] != start[0] else 0
        self._rows = [[*start, one], [*start, other, one, other]]
        self._shared = encode_shared_start(model, self._rows, gaps=True)
        # Too short a prompt shares nothing, and says nothing of what is shared by others.
        self._kind = f", shared {self._shared.length > 0}"

    def passes(self, name: str, strategy: Strategy) -> bool:
        """Tells whether a strategy gets the logits right; a model is put to each trial only once."""
        return tried(self._model, name + self._kind, lambda: self._is_right(strategy))

    def _is_right(self, strategy: Strategy) -> bool:
        expected = tried(self._model, "read whole" + self._kind, lambda: self._largest_logits(reading_whole, NOTHING))
        logits = self._largest_logits(strategy, self._shared)
        return len(logits) == len(expected) and agree(self._model, logits, expected)

    def _largest_logits(self, strategy: Strategy, shared: SharedStart) -> Float[Tensor, " step"]:
        """Returns the largest logit of every step by size, since strategies take the rows in orders of their own."""
        seen: list[Tensor] = []
        run = Generation(
            model=self._model,
            prompts=self._rows,
            shared=shared,
            places=len(self._rows),
            filler=self._tokenizer.pad_token_id,
            is_over=lambda _, answer: len(answer) == _TRIED,
            check=seen.append,
        )
        with plainly_greedy(self._model, self._tokenizer, _TRIED, ends=[]):
            list(strategy(run))
        return torch.cat(seen).float().sort().values
