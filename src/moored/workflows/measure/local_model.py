"""A checkpoint in memory, as `moored measure` asks and scores it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from moored.huggingface.inference import DriftProbe, ReferenceAnswers, generate, reference_answers
from moored.huggingface.inference.batches import by_length
from moored.huggingface.models import ModelSource, best_device, load_model
from moored.workflows.measure.interface import DriftPrompts
from moored.workflows.measure.settings import MeasureSettings

_BATCHES = 8
"""Batches between two savings of the answers. At each the last answers run with most of their batch empty."""


class LocalModel:
    """Answers and scores with a model that transformers loads; an adapter is merged into the weights in memory."""

    def __init__(self, source: ModelSource, tokenizer: Any, settings: MeasureSettings) -> None:
        dtype = "auto" if settings.dtype is None else getattr(torch, settings.dtype)
        self._model: Any = load_model(source, dtype=dtype, merge=True)
        self._model.to(best_device())
        self._tokenizer, self._settings, self._name = tokenizer, settings, source.describe()

    @property
    def precision(self) -> str:
        """The precision of the weights in memory."""
        return str(self._model.dtype).removeprefix("torch.")

    @property
    def scorer(self) -> "LocalModel":
        """This model."""
        return self

    def answers(
        self,
        rendered: Sequence[str],
        lengths: Sequence[int],
        progress: Callable[[int], object],
        is_final: Callable[[int, str], bool] | None,
    ) -> Iterator[dict[int, str]]:
        """Yields the answers of a few batches at a time, the longest prompts first."""
        size = self._settings.batch_size
        for rows in by_length(rendered, _BATCHES * size):
            texts = generate(
                self._model,
                self._tokenizer,
                [rendered[row] for row in rows],
                max_new_tokens=[lengths[row] for row in rows],
                reasoning_tokens=self._settings.max_reasoning_tokens,
                batch_size=size,
                is_final=None if is_final is None else _of(rows, is_final),
                progress=progress,
                name=self._name,
            )
            yield dict(zip(rows, texts, strict=True))

    def scores(self, prompts: DriftPrompts, reference: ReferenceAnswers | None) -> dict[str, list[float]]:
        """Refusal log-odds, and the KL divergence to the reference, one value a prompt."""
        scores = self._probe(prompts, reference).scores(self._model)
        return {name: values.tolist() for name, values in scores.items()}

    def reference(self, prompts: DriftPrompts, answers: Mapping[str, Sequence[str]]) -> ReferenceAnswers:
        """This model's answers with the logits that it had while giving them."""
        return reference_answers(self._model, self._probe(prompts, None), answers_of=answers)

    def _probe(self, prompts: DriftPrompts, reference: ReferenceAnswers | None) -> DriftProbe:
        return DriftProbe(
            tokenizer=self._tokenizer,
            harmful=prompts.harmful,
            ordinary=prompts.ordinary,
            refusing=prompts.refusing,
            complying=prompts.complying,
            reference=reference,
        )


def _of(rows: Sequence[int], is_final: Callable[[int, str], bool]) -> Callable[[int, str], bool]:
    """Asks about a portion's answers by their positions in the whole."""
    return lambda place, text: is_final(rows[place], text)
