"""Greedy answers to rendered prompts, in batches."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from moored.errors import ModelError
from moored.huggingface.inference.answer_length import AnswerLength, answer_length, ends_of_turn
from moored.huggingface.inference.batches import Ids, by_length, evaluating, of_one_length, token_ids
from moored.huggingface.inference.decoding import can_decode, decode
from moored.huggingface.inference.shared_start import NOTHING, SharedStart, encode_shared_start
from moored.huggingface.inference.trials import agree, passes_over_padding, plain_logits, require_causal_answers, tried

Check = Callable[[Tensor], None]
"""Called with the largest logit of each row before its token is taken; NaN where one of them is NaN."""
IsOver = Callable[[int, Ids], bool]
"""Tells by the number of a prompt and the tokens of its answer so far whether that ends with its last token."""
Way = Callable[..., Iterator[tuple[int, Ids]]]
"""Yields the number of each prompt and the tokens of its answer."""
_BEGINNING, _TRIED = 10, 2
"""The number of tokens of a prompt, and of its answer, on which a way to answer is tried."""
LOOK = 2
"""Tokens between two looks whether an answer is final."""


@torch.inference_mode()
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    *,
    max_new_tokens: int | Sequence[int] = 48,
    reasoning_tokens: int = 0,
    batch_size: int = 128,
    is_final: Callable[[int, str], bool] | None = None,
    progress: Callable[[int], object] | None = None,
    name: str = "the model",
) -> list[str]:
    """The greedy answer to each rendered prompt, in the order of the prompts.

    What all prompts begin with is encoded once. An answer that ends makes room for a waiting prompt; where the model's
    state allows that only as a whole, prompts of similar length share a batch from beginning to end, and prompts of
    one length where the model would read the padding.

    Args:
        model: a causal language model; it is left in the mode it came in.
        tokenizer: its tokenizer; special tokens are not added, the rendering has them.
        rendered: prompts as the chat template renders them, generation prompt included.
        max_new_tokens: at which an answer is cut, ≥ 1; one number for all, or one for each.
        reasoning_tokens: the further tokens that an answer may take for a reasoning before it, ≥ 0. The reasoning is
            part of the text, with its marks.
        batch_size: answers in progress at a time, ≥ 1.
        is_final: asked now and then, past the reasoning, with the position of a prompt and its answer so far; an answer
            ends where it says so.
        progress: called with the number of answers whenever some are complete.
        name: the model's name in an error message.

    Raises:
        ModelError: the model's logits are NaN or infinite, or depend on later tokens.
    """
    check = _finite_logits(name)
    answers, prompts = [""] * len(rendered), token_ids(tokenizer, rendered)
    length = answer_length(
        tokenizer, rendered, prompts, most=max_new_tokens, reasoning=reasoning_tokens, context=_context(model)
    )
    with evaluating(model), _plainly_greedy(model, tokenizer, length.longest), _contiguous_head(model):
        require_causal_answers(model, prompts)
        shared = encode_shared_start(model, prompts, gaps=True)
        for row, text in _texts(model, tokenizer, prompts, shared, batch_size, length, is_final, check):
            answers[row] = text
            if progress:
                progress(1)
    return answers


def _finite_logits(name: str) -> Check:
    """Stops a generation whose logits choose nothing; its answers would look like those of a model that is silent."""

    def check(largest: Tensor) -> None:
        # A model may rule tokens out by -inf; a NaN makes the maximum NaN.
        if not largest.isfinite().all():
            raise ModelError(
                f"The logits of {name} are NaN or infinite, so its answers would mean nothing; load it in "
                "float32 (`moored measure --dtype float32`), or check its weights."
            )

    return check


@contextmanager
def _plainly_greedy(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, *, ends: list[int] | None = None
) -> Iterator[None]:
    """A checkpoint's own settings may sample or punish repetition; what is measured is the bare argmax.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        max_new_tokens: at which an answer is cut.
        ends: the tokens that end an answer; None for the model's own.
    """
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own = causal.generation_config
    causal.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends_of_turn(tokenizer, own.eos_token_id) if ends is None else ends or None,
    )
    try:
        yield
    finally:
        causal.generation_config = own


def _context(model: Any) -> int | None:
    """The positions that a model was made for, or None where its configuration does not say."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return getattr(causal.config.get_text_config(), "max_position_embeddings", None)


@contextmanager
def _contiguous_head(model: torch.nn.Module) -> Iterator[None]:
    """Lets the output head see its states in one piece.

    After a batch of prompts it is called with a slice, their last positions, and with a frozen weight a product of that
    in three dimensions copies the weight for every prompt: on a CPU that is slow, and gigabytes.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: tuple(map(_in_one_piece, inputs)))
    try:
        yield
    finally:
        hook.remove()


def _in_one_piece(value: Any) -> Any:
    return value.contiguous() if isinstance(value, torch.Tensor) else value


def _texts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    shared: SharedStart,
    batch_size: int,
    length: AnswerLength,
    is_final: Callable[[int, str], bool] | None,
    check: Check,
) -> Iterator[tuple[int, str]]:
    """Yields the answers as they are complete."""
    if not prompts:
        return
    ends = _ends(model)

    def is_over(row: int, answer: Ids) -> bool:
        if answer[-1] in ends or length.is_reached(row, answer):
            return True
        # Making the text of a reasoning time and again would cost the square of its length.
        if is_final is None or len(answer) % LOOK or not length.is_past_reasoning(row):
            return False
        return is_final(row, length.text(answer))

    answers = _way(model, tokenizer, prompts)
    for row, answer in answers(model, prompts, shared, batch_size, tokenizer.pad_token_id, is_over, check):
        yield row, length.text(answer)


def _way(model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids]) -> Way:
    """Chooses the fastest way to answer that gets the logits of a model right.

    Each is tried on two beginnings of a prompt, which share a start and are of different lengths.
    """
    start = prompts[0][:_BEGINNING]
    one, other = start[0], start[-1] if start[-1] != start[0] else 0
    rows = [[*start, one], [*start, other, one, other]]

    def largest_logits(way: Way, shared: SharedStart) -> Tensor:
        seen: list[Tensor] = []
        with _plainly_greedy(model, tokenizer, _TRIED, ends=[]):
            list(way(model, rows, shared, len(rows), tokenizer.pad_token_id, _is_tried, seen.append))
        return torch.cat(seen).float().sort().values

    shared = encode_shared_start(model, rows, gaps=True)
    # Too short a prompt shares nothing, and says nothing of what is shared by others.
    kind = f", shared {shared.length > 0}"

    def compared(way: Way) -> bool:
        expected = tried(model, "read whole" + kind, lambda: largest_logits(_read_whole, NOTHING))
        found = largest_logits(way, shared)
        return len(found) == len(expected) and agree(model, found, expected)

    def is_right(name: str, way: Way) -> bool:
        return tried(model, name + kind, lambda: compared(way))

    can_pad = passes_over_padding(model, prompts[0])
    if can_pad and can_decode(model, prompts[0][0]) and is_right("decoding", _decoded):
        return _decoded
    if can_pad and is_right("padded batches", _padded_batches):
        return _padded_batches
    return _batches_of_one_length if is_right("batches", _batches_of_one_length) else _read_whole


def _is_tried(row: int, answer: Ids) -> bool:
    return len(answer) == _TRIED


def _ends(model: Any) -> Container[int]:
    """The tokens that end an answer."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return causal.generation_config.eos_token_id


def _decoded(
    model: Any, prompts: Sequence[Ids], shared: SharedStart, places: int, filler: int, is_over: IsOver, check: Check
) -> Iterator[tuple[int, Ids]]:
    """A row leaves its batch as soon as its answer is over."""
    waiting = {row: prompts[row] for rows in by_length(prompts, places) for row in rows}
    yield from decode(model, waiting, shared, places=places, filler=filler, is_over=is_over, check=check)


def _padded_batches(
    model: Any, prompts: Sequence[Ids], shared: SharedStart, places: int, filler: int, is_over: IsOver, check: Check
) -> Iterator[tuple[int, Ids]]:
    """Prompts of similar length share a batch until the last answer is over."""
    for rows in by_length(prompts, places):
        yield from _whole_batch(model, {row: prompts[row] for row in rows}, shared, filler, is_over, check).items()


def _batches_of_one_length(
    model: Any, prompts: Sequence[Ids], shared: SharedStart, places: int, filler: int, is_over: IsOver, check: Check
) -> Iterator[tuple[int, Ids]]:
    """The same without any padding before a prompt."""
    for rows in of_one_length(prompts, places):
        yield from _whole_batch(model, {row: prompts[row] for row in rows}, shared, filler, is_over, check).items()


def _read_whole(
    model: Any, prompts: Sequence[Ids], shared: SharedStart, places: int, filler: int, is_over: IsOver, check: Check
) -> Iterator[tuple[int, Ids]]:
    """All is read again for every token, without state or padding: slow, and right for any causal model."""
    for rows in of_one_length(prompts, places):
        answers: dict[int, Ids] = {row: [] for row in rows}
        while answers:
            largest = plain_logits(model, [prompts[row] + answer for row, answer in answers.items()])[:, -1].max(-1)
            check(largest.values)
            for row, token in zip([*answers], largest.indices.tolist(), strict=True):
                answers[row].append(token)
                if is_over(row, answers[row]):
                    yield row, answers.pop(row)


class _Seen(LogitsProcessor):
    """Shows the largest logits of a generation."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Returns the logits as they are."""
        self._check(scores.amax(dim=-1))
        return scores


class _Answers(StoppingCriteria):
    """Collects the answers of a generation, and ends each row where its answer is over."""

    def __init__(self, rows: Iterable[int], is_over: IsOver) -> None:
        self.answers: dict[int, Ids] = {row: [] for row in rows}
        self._over = set[int]()
        self._is_over = is_over

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Any:
        """Whether each row is over with its last token. One that is over gets padding while the others go on."""
        for (row, answer), token in zip(self.answers.items(), input_ids[:, -1].tolist(), strict=True):
            if row not in self._over:
                answer.append(token)
                if self._is_over(row, answer):
                    self._over.add(row)
        return torch.tensor([row in self._over for row in self.answers], device=input_ids.device)


def _whole_batch(
    model: Any, prompts: Mapping[int, Ids], shared: SharedStart, filler: int, is_over: IsOver, check: Check
) -> dict[int, Ids]:
    """Padding stands after what is shared, and before what is not."""
    rests = [prompt[shared.length :] for prompt in prompts.values()]
    width = max(map(len, rests))
    gaps = [width - len(rest) for rest in rests]
    start = next(iter(prompts.values()))[: shared.length]
    ids = [start + [filler] * gap + rest for gap, rest in zip(gaps, rests, strict=True)]
    seen = [[1] * len(start) + [0] * gap + [1] * (width - gap) for gap in gaps]
    device = next(model.parameters()).device
    inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(seen, device=device)}
    state = shared.repeated(model, len(prompts))
    collected = _Answers(prompts, is_over)
    model.generate(
        **inputs,
        **state,
        logits_processor=LogitsProcessorList([_Seen(check)]),
        stopping_criteria=StoppingCriteriaList([collected]),
    )
    return collected.answers
