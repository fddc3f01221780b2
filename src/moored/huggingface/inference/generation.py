"""Greedy answers to rendered prompts, in batches."""

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from moored.errors import ModelError
from moored.huggingface.inference.answer_length import AnswerLength, answer_length, ends_of_turn
from moored.huggingface.inference.batches import Ids, by_length, evaluating, token_ids
from moored.huggingface.inference.decoding import can_decode, decode
from moored.huggingface.inference.shared_start import SharedStart, encode_shared_start

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
    state allows that only as a whole, prompts of similar length share a batch from beginning to end.

    Args:
        model: a causal language model; it is left in the mode it came in.
        tokenizer: its tokenizer; special tokens are not added, the rendering has them.
        rendered: prompts as the chat template renders them, generation prompt included.
        max_new_tokens: at which an answer is cut, ≥ 1; one number for all, or one for each.
        reasoning_tokens: the further tokens that an answer may take for a reasoning before it, ≥ 0. The reasoning is
            part of the text, with its marks.
        batch_size: answers in progress at a time, ≥ 1.
        is_final: asked now and then with the position of a prompt and its answer so far; an answer ends where it says
            so. It is not asked where batches stay whole.
        progress: called with the number of answers whenever some are complete.
        name: the model's name in an error message.

    Raises:
        ModelError: the model's logits are NaN or infinite.
    """
    check = _FiniteLogits(name)
    answers, prompts = [""] * len(rendered), token_ids(tokenizer, rendered)
    length = answer_length(
        tokenizer, rendered, prompts, most=max_new_tokens, reasoning=reasoning_tokens, context=_context(model)
    )
    with evaluating(model), _plainly_greedy(model, tokenizer, length.longest), _contiguous_head(model):
        shared = encode_shared_start(model, prompts, gaps=True)
        for row, text in _texts(model, tokenizer, prompts, shared, batch_size, length, is_final, check):
            answers[row] = text
            if progress:
                progress(1)
    return answers


class _FiniteLogits(LogitsProcessor):
    """Stops a generation whose logits choose nothing; its answers would look like those of a model that is silent."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns the logits as they are."""
        self.check(scores.amax(dim=-1))
        return scores

    def check(self, largest: torch.Tensor) -> None:
        """Raises ModelError for NaN and infinity. A model may rule tokens out by -inf; a NaN makes the maximum NaN."""
        if not largest.isfinite().all():
            raise ModelError(
                f"The logits of {self._name} are NaN or infinite, so its answers would mean nothing; load it in "
                "float32 (`moored measure --dtype float32`), or check its weights."
            )


@contextmanager
def _plainly_greedy(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> Iterator[None]:
    """A checkpoint's own settings may sample or punish repetition; what is measured is the bare argmax."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own = causal.generation_config
    causal.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=ends_of_turn(tokenizer, own.eos_token_id),
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
    check: _FiniteLogits,
) -> Iterator[tuple[int, str]]:
    """Yields the answers as they are complete."""
    order = by_length(prompts, batch_size)
    if not (prompts and can_decode(model, prompts[0][0])):
        for rows in order:
            answers = _whole_batch(model, tokenizer, [prompts[row] for row in rows], shared, check)
            yield from ((row, length.text(length.cut(row, answer))) for row, answer in zip(rows, answers, strict=True))
        return
    ends = _ends(model)

    def is_over(row: int, answer: Ids) -> bool:
        if answer[-1] in ends or length.is_reached(row, answer):
            return True
        return is_final is not None and len(answer) % LOOK == 0 and is_final(row, length.text(answer))

    waiting = {row: prompts[row] for rows in order for row in rows}
    filler: Any = tokenizer.pad_token_id
    for row, answer in decode(
        model, waiting, shared, places=batch_size, filler=filler, is_over=is_over, check=check.check
    ):
        yield row, length.text(answer)


def _ends(model: Any) -> Container[int]:
    """The tokens that end an answer."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    return causal.generation_config.eos_token_id


def _whole_batch(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Ids], shared: SharedStart, check: _FiniteLogits
) -> list[Ids]:
    """Padding stands after what is shared, and before what is not."""
    rests = [prompt[shared.length :] for prompt in prompts]
    width = max(map(len, rests))
    pads = [width - len(rest) for rest in rests]
    start, pad = prompts[0][: shared.length], tokenizer.pad_token_id
    ids = [start + [pad] * missing + rest for missing, rest in zip(pads, rests, strict=True)]
    seen = [[1] * len(start) + [0] * missing + [1] * (width - missing) for missing in pads]
    device = next(model.parameters()).device
    inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(seen, device=device)}
    output = model.generate(
        **inputs, **shared.repeated(model, len(prompts)), logits_processor=LogitsProcessorList([check])
    )
    ends = _ends(model)
    return [_up_to_end(answer, ends) for answer in output[:, shared.length + width :].tolist()]


def _up_to_end(answer: Ids, ends: Container[int]) -> Ids:
    """The tokens up to the end, behind which the others of a batch have gone on."""
    return answer[: next((at for at, token in enumerate(answer, 1) if token in ends), len(answer))]
