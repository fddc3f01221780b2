"""A model whose answers are its bare argmax, whatever its checkpoint's settings say."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from moored.huggingface.inference.answer_length import ends_of_turn
from moored.huggingface.models import without_adapter


@contextmanager
def plainly_greedy(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int, *, ends: list[int] | None = None
) -> Iterator[None]:
    """Replaces a checkpoint's own settings, which may sample or punish repetition, and restores them afterwards.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        max_new_tokens: at which an answer is cut.
        ends: the tokens that end an answer; None for the model's own.
    """
    causal = without_adapter(model)
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


@contextmanager
def contiguous_head(model: torch.nn.Module) -> Iterator[None]:
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
