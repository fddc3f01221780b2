"""Greedy answers to rendered prompts, in batches."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from moored.errors import ModelError
from moored.huggingface.inference.answer_length import AnswerLength, answer_length
from moored.huggingface.inference.batches import Ids, evaluating, token_ids
from moored.huggingface.inference.greedy import contiguous_head, plainly_greedy
from moored.huggingface.inference.shared_start import encode_shared_start
from moored.huggingface.inference.strategies import Check, Generation, IsOver
from moored.huggingface.inference.strategy_choice import choose_strategy
from moored.huggingface.inference.trials import require_causal_answers
from moored.huggingface.models import without_adapter

_LOOK = 2
"""The number of tokens between two looks whether an answer is final."""


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
    if not rendered:
        return []
    answers, prompts = [""] * len(rendered), token_ids(tokenizer, rendered)
    length = answer_length(
        tokenizer, rendered, prompts, most=max_new_tokens, reasoning=reasoning_tokens, context=_context(model)
    )
    filler: Any = tokenizer.pad_token_id
    with evaluating(model), plainly_greedy(model, tokenizer, length.longest), contiguous_head(model):
        require_causal_answers(model, prompts)
        run = Generation(
            model=model,
            prompts=prompts,
            shared=encode_shared_start(model, prompts, gaps=True),
            places=batch_size,
            filler=filler,
            is_over=_end_of_answer(model, length, is_final),
            check=_finite_logits(name),
        )
        for row, answer in choose_strategy(model, tokenizer, prompts)(run):
            answers[row] = length.text(answer)
            if progress:
                progress(1)
    return answers


def _context(model: torch.nn.Module) -> int | None:
    """The positions that a model was made for, or None where its configuration does not say."""
    return getattr(without_adapter(model).config.get_text_config(), "max_position_embeddings", None)


def _end_of_answer(model: Any, length: AnswerLength, is_final: Callable[[int, str], bool] | None) -> IsOver:
    """Returns what tells whether an answer is over: by its last token, its length, or since it is final."""
    ends = without_adapter(model).generation_config.eos_token_id

    def is_over(row: int, answer: Ids) -> bool:
        if answer[-1] in ends or length.is_reached(row, answer):
            return True
        # Making the text of a reasoning time and again would cost the square of its length.
        if is_final is None or len(answer) % _LOOK or not length.is_past_reasoning(row):
            return False
        return is_final(row, length.text(answer))

    return is_over


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
