"""The strategies by which prompts are answered together, from the fastest to the one that is right for any model."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from moored.huggingface.inference.batches import Ids, by_length, of_one_length
from moored.huggingface.inference.decoding import decode
from moored.huggingface.inference.shared_start import SharedStart
from moored.huggingface.inference.trials import plain_logits

Check = Callable[[Tensor], None]
"""Called with the largest logit of each row before its token is taken; NaN where one of them is NaN."""
IsOver = Callable[[int, Ids], bool]
"""Tells by the number of a prompt and the tokens of its answer so far whether that ends with its last token."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The prompts that a model answers, and how."""

    model: Any
    """A causal language model."""
    prompts: Sequence[Ids]
    shared: SharedStart
    """What all prompts begin with."""
    places: int
    """The number of answers in progress at a time, at most; ≥ 1."""
    filler: int
    """The token that stands where there is none."""
    is_over: IsOver
    check: Check


Strategy = Callable[[Generation], Iterator[tuple[int, Ids]]]
"""Yields the number of each prompt and the tokens of its answer."""


def continuous_batch(run: Generation) -> Iterator[tuple[int, Ids]]:
    """Lets a row leave the batch as soon as its answer is over."""
    waiting = {row: run.prompts[row] for rows in by_length(run.prompts, run.places) for row in rows}
    yield from decode(
        run.model, waiting, run.shared, places=run.places, filler=run.filler, is_over=run.is_over, check=run.check
    )


def padded_batches(run: Generation) -> Iterator[tuple[int, Ids]]:
    """Lets prompts of similar length share a batch until the last answer is over."""
    for rows in by_length(run.prompts, run.places):
        yield from _whole_batch(run, rows).items()


def batches_of_one_length(run: Generation) -> Iterator[tuple[int, Ids]]:
    """Does the same without any padding before a prompt."""
    for rows in of_one_length(run.prompts, run.places):
        yield from _whole_batch(run, rows).items()


def reading_whole(run: Generation) -> Iterator[tuple[int, Ids]]:
    """Reads all again for every token, without state or padding: slow, and right for any causal model."""
    for rows in of_one_length(run.prompts, run.places):
        answers: dict[int, Ids] = {row: [] for row in rows}
        while answers:
            texts = [run.prompts[row] + answer for row, answer in answers.items()]
            largest = plain_logits(run.model, texts)[:, -1].max(-1)
            run.check(largest.values)
            for row, token in zip([*answers], largest.indices.tolist(), strict=True):
                answers[row].append(token)
                if run.is_over(row, answers[row]):
                    yield row, answers.pop(row)


def _whole_batch(run: Generation, rows: Sequence[int]) -> dict[int, Ids]:
    """Answers some prompts by transformers' `generate`; padding stands after what is shared, and before what is not."""
    start = run.prompts[rows[0]][: run.shared.length]
    rests = [run.prompts[row][len(start) :] for row in rows]
    width = max(map(len, rests))
    gaps = [width - len(rest) for rest in rests]
    ids = [start + [run.filler] * gap + rest for gap, rest in zip(gaps, rests, strict=True)]
    mask = [[1] * len(start) + [0] * gap + [1] * (width - gap) for gap in gaps]
    device = next(run.model.parameters()).device
    answers = _Answers(rows, run.is_over)
    run.model.generate(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=torch.tensor(mask, device=device),
        **run.shared.repeated(run.model, len(rows)),
        logits_processor=LogitsProcessorList([_LargestLogits(run.check)]),
        stopping_criteria=StoppingCriteriaList([answers]),
    )
    return answers.by_row


class _LargestLogits(LogitsProcessor):
    """Shows the largest logits of a generation to its check."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns the logits as they are."""
        self._check(scores.amax(dim=-1))
        return scores


class _Answers(StoppingCriteria):
    """Collects the answers of a generation, and ends each row where its answer is over."""

    def __init__(self, rows: Iterable[int], is_over: IsOver) -> None:
        self.by_row: dict[int, Ids] = {row: [] for row in rows}
        self._over = set[int]()
        self._is_over = is_over

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Any:
        """Tells whether each row is over with its last token. One that is gets padding while the others go on."""
        for (row, answer), token in zip(self.by_row.items(), input_ids[:, -1].tolist(), strict=True):
            if row not in self._over:
                answer.append(token)
                if self._is_over(row, answer):
                    self._over.add(row)
        return torch.tensor([row in self._over for row in self.by_row], device=input_ids.device)
