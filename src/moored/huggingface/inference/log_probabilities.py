"""Log-probabilities of given continuations, and logits at chosen positions, from one forward pass a batch."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from moored.huggingface.inference.batches import by_length, evaluating


@torch.inference_mode()
def continuation_log_probs(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    continuations: Sequence[str],
    *,
    batch_size: int = 64,
) -> Float[Tensor, "prompt continuation"]:
    """Returns log p(continuation | prompt) for every pair, summed over the continuation's tokens, in fp32 on the CPU.

    Prompt and continuation are tokenized apart and joined, as they are when a model answers.
    """
    endings = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in continuations]
    starts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in rendered]
    pairs = [(start, ending) for start in starts for ending in endings]
    scores = torch.zeros(len(pairs))
    with evaluating(model):
        for rows, logits, targets in _answer_logits(model, tokenizer, pairs, batch_size):
            for row, row_logits, target in zip(rows, logits, targets, strict=True):
                log_probs = row_logits.log_softmax(-1)
                scores[row] = log_probs.gather(-1, target[:, None]).sum()
    return scores.view(len(starts), len(endings))


@torch.inference_mode()
def answer_logits(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 16,
) -> list[Float[Tensor, "position vocab"]]:
    """The logits that predict each token of a given answer to a given prompt, in fp32 on the CPU."""
    tokenize = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    pairs = [(tokenize(prompt), tokenize(answer)) for prompt, answer in zip(rendered, answers, strict=True)]
    found: list[Tensor] = [torch.empty(0)] * len(pairs)
    with evaluating(model):
        for rows, logits, _ in _answer_logits(model, tokenizer, pairs, batch_size):
            for row, row_logits in zip(rows, logits, strict=True):
                found[row] = row_logits
    return found


def _answer_logits(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, pairs: list[tuple[list[int], list[int]]], size: int
) -> Iterator[tuple[list[int], list[Tensor], list[Tensor]]]:
    """Yields (rows, logits of the answer positions, answer tokens) per batch, right-padded.

    Only the last hidden states of answer positions go through the output head: with a large vocabulary the
    logits of whole prompts would be most of the memory.
    """
    device = next(model.parameters()).device
    for rows in by_length([" " * (len(start) + len(ending)) for start, ending in pairs], size):
        batch = [pairs[row] for row in rows]
        ids, mask = _pad([start + ending for start, ending in batch], tokenizer.pad_token_id)
        ids, mask = ids.to(device), mask.to(device)
        hidden = model_backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        spans = [slice(len(start) - 1, len(start) + len(ending) - 1) for start, ending in batch]
        states = torch.cat([hidden[i, span] for i, span in enumerate(spans)])
        logits = output_logits(model, states).float().cpu()
        yield (
            rows,
            list(logits.split([len(ending) for _, ending in batch])),
            [torch.tensor(ending, dtype=torch.long) for _, ending in batch],
        )


def _pad(sequences: list[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(map(len, sequences))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in sequences])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in sequences])
    return ids, mask


def model_backbone(model: torch.nn.Module) -> torch.nn.Module:
    """The decoder below the output head, with adapters still active (on a PeftModel `.base_model` is not it)."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(causal, causal.base_model_prefix)


def output_logits(model: torch.nn.Module, states: Float[Tensor, "position hidden"]) -> Float[Tensor, "position vocab"]:
    """Output head and, where the architecture has them, scale and soft-cap of its logits."""
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = causal.config.get_text_config()
    logits = causal.get_output_embeddings()(states)
    logits = logits * getattr(config, "logit_scale", 1.0) * getattr(config, "lm_head_multiplier", 1.0)
    logits = logits / getattr(config, "logits_scaling", 1.0)
    cap = getattr(config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits
