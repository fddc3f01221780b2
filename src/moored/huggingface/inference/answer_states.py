"""The hidden states of answers: what a linear head reads."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from moored.huggingface.inference.batches import by_length

MAX_PROMPT, MAX_ANSWER = 48, 64
"""The last tokens of a prompt, with its marks, and the first of an answer that are read; our choice."""
_BATCH = 16


@torch.inference_mode()
def mean_answer_states(
    decoder: Any, tokenizer: Any, exchanges: Sequence[tuple[str, str]], *, layers: Sequence[int]
) -> Float[Tensor, "answer hidden"]:
    """The mean over each answer's tokens of what some layers make of them, in fp32 and one behind the other.

    Args:
        decoder: a model without its head; its attention is causal.
        tokenizer: the model's tokenizer; the conversation is written in ChatML, without a system prompt.
        exchanges: prompts with their answers.
        layers: the layers whose output is read, counted from 1.
    """
    rows = [_ids(tokenizer, *exchange) for exchange in exchanges]
    states = torch.zeros(len(rows), len(layers) * decoder.config.hidden_size)
    for batch in by_length([prompt + answer for prompt, answer in rows], _BATCH):
        # Padding stands at the right, where causal attention does not see it.
        ids = [torch.tensor(rows[row][0] + rows[row][1]) for row in batch]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        found = decoder(input_ids=padded, use_cache=False, output_hidden_states=True).hidden_states
        read = torch.cat([found[layer] for layer in layers], dim=-1)
        for row, state in zip(batch, read, strict=True):
            start, count = map(len, rows[row])
            states[row] = state[start : start + count].float().mean(0)
    return states


def _ids(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    asked = f"<|im_start|>user\n{prompt.strip()}<|im_end|>\n<|im_start|>assistant\n"
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, answer.strip()))
    return before[-MAX_PROMPT:], after[:MAX_ANSWER] or before[-1:]
