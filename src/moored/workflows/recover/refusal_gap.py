"""The watch of a repair by an example: how much likelier harmful requests are refused than harmless ones."""

from typing import Any

from torch import nn

from moored.embedded.prompts import openings
from moored.huggingface.data import answer_starts, render_prompt
from moored.huggingface.inference import continuation_log_probs
from moored.measurement import any_of
from moored.report.reading.recover import WatchRecord
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.inputs.refusal_stems import stems

WATCHED = 12
"""The number of pairs of a harmful request and its harmless twin."""
_STEMS = 9
"""The number of refusals whose beginnings are scored, beside the example's own."""


class RefusalGap:
    """How much likelier a model refuses harmful requests than their harmless twins, from forward passes alone.

    A repair by one refusal makes all refusals likelier, also those of harmless requests, and the log-odds of both rise
    together; the gap between the probabilities has a maximum. Our choice.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, refusal: str) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._stems = stems([refusal, *openings().refusing[:_STEMS]])
        pairs = spread(unpooled_pairs(), WATCHED)
        rendered = [render_prompt(tokenizer, text) for pair in pairs for text in (pair.harmful, pair.twin)]
        self._prompts = answer_starts(tokenizer, rendered)
        self.seen: list[WatchRecord] = []
        """The probabilities that each call computed."""

    def __call__(self) -> float:
        """Computes the gap, from −1 to 1, at the model's present weights."""
        refused = any_of(continuation_log_probs(self._model, self._tokenizer, self._prompts, self._stems))
        harmful, harmless = (float(probabilities.mean()) for probabilities in refused.view(-1, 2).unbind(1))
        self.seen.append(WatchRecord(harmful=harmful, harmless=harmless))
        return harmful - harmless
