"""Log-probabilities of given continuations, and the logits that predict given answers."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, PreTrainedTokenizerBase

from moored.huggingface.inference.batches import Ids, by_length, evaluating, of_one_length, token_ids
from moored.huggingface.inference.shared_start import (
    NOTHING,
    SharedStart,
    encode_shared_start,
    last_position,
    plain_state,
    repeated,
)
from moored.huggingface.inference.trials import continues_states, require_causal_answers

ENDINGS = 8
"""Continuations a batch; they are sorted by length, and each batch is as wide as its longest."""


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

    Prompt and continuation are tokenized apart and joined, as they are when a model answers. Where the
    model's cache can be repeated, each prompt is encoded once for all of its continuations, and what all prompts begin
    with once for all of them.

    Args:
        model: a causal language model; it is left in the mode it came in.
        tokenizer: its tokenizer; special tokens are not added, the rendering has them.
        rendered: prompts as the chat template renders them, generation prompt included.
        continuations: beginnings of an answer.
        batch_size: pairs a batch, ≥ 1.
    """
    starts, endings = token_ids(tokenizer, rendered), token_ids(tokenizer, continuations)
    scores = torch.zeros(len(starts), len(endings))
    columns_of = by_length([" " * len(ending) for ending in endings], min(ENDINGS, batch_size))
    with evaluating(model):
        require_causal_answers(model, starts)
        uses_state = not starts or continues_states(model, starts[0])
        shared = _shared_start(model, starts)
        for rows in of_one_length(starts, max(1, batch_size // ENDINGS)):
            group = [starts[row] for row in rows]
            encoded = _encode(model, group, shared) if uses_state else None
            for columns in columns_of:
                found = _log_probs(model, group, [endings[column] for column in columns], encoded)
                scores[torch.tensor(rows)[:, None], torch.tensor(columns)] = found
    return scores


def answer_log_probs(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 16,
) -> Float[Tensor, " pair"]:
    """Returns log p(answer | prompt) for each prompt and its own answer, summed over the answer's tokens, in fp32.

    Arguments as those of `continuation_log_probs`, but pair by pair.
    """
    scores = answer_token_log_probs(model, tokenizer, rendered, answers, batch_size=batch_size)
    return torch.stack([each.sum() for each in scores]) if scores else torch.zeros(0)


@torch.inference_mode()
def answer_token_log_probs(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 16,
) -> list[Float[Tensor, " token"]]:
    """The log-probability of each token of a given answer to a given prompt, in nats, in fp32 on the CPU."""
    pairs = list(zip(token_ids(tokenizer, rendered), token_ids(tokenizer, answers), strict=True))
    found: list[Tensor] = [torch.empty(0)] * len(pairs)
    starts = [start for start, _ in pairs]
    with evaluating(model):
        require_causal_answers(model, starts)
        shared = _shared_start(model, starts)
        for rows in by_length([" " * len(start + ending) for start, ending in pairs], batch_size):
            for row, logits in zip(rows, _logits_of(model, [pairs[row] for row in rows], shared), strict=True):
                found[row] = _log_probs_of(logits.float().cpu(), pairs[row][1])
    return found


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
    found: list[Tensor] = [torch.empty(0)] * len(rendered)
    with evaluating(model):
        for rows, logits in answer_logits_in_parts(model, tokenizer, rendered, answers, batch_size=batch_size):
            for row, each in zip(rows, logits, strict=True):
                found[row] = each.float().cpu()
    return found


def answer_logits_in_parts(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    answers: Sequence[str],
    *,
    batch_size: int = 16,
) -> Iterator[tuple[list[int], list[Float[Tensor, "position vocab"]]]]:
    """Yields rows and their logits a batch at a time, with their graph if gradients are on, in the model's mode."""
    pairs = list(zip(token_ids(tokenizer, rendered), token_ids(tokenizer, answers), strict=True))
    shared = _shared_start(model, [start for start, _ in pairs])
    for rows in by_length([" " * len(start + ending) for start, ending in pairs], batch_size):
        yield rows, _logits_of(model, [pairs[row] for row in rows], shared)


def _shared_start(model: torch.nn.Module, starts: list[Ids]) -> SharedStart:
    # In training mode or with gradients nothing is shared.
    if not starts or model.training or torch.is_grad_enabled() or not continues_states(model, starts[0]):
        return NOTHING
    return encode_shared_start(model, starts)


def _encode(
    model: torch.nn.Module, starts: list[Ids], shared: SharedStart
) -> tuple[Float[Tensor, "prompt 1 vocab"], Cache] | None:
    """The logits after each prompt and the prompts' cache; None where that is not one of plain keys and values."""
    ids = _padded([start[shared.length :] for start in starts], model)
    last = last_position(ids)
    output = model(input_ids=ids, use_cache=True, logits_to_keep=last, **shared.repeated(model, len(starts)))
    cache = plain_state(output)
    return None if cache is None else (_only(output.logits, last), cache)


def _log_probs(
    model: torch.nn.Module, starts: list[Ids], endings: list[Ids], encoded: tuple[Tensor, Cache] | None
) -> Float[Tensor, "prompt continuation"]:
    pairs = [(start, ending) for start in starts for ending in endings]
    if encoded is None:
        logits = _logits_of(model, pairs)
    else:
        logits = _logits_after(model, [ending for _, ending in pairs], *encoded)
    scores = [
        _score(each[: len(ending)].float().cpu(), ending) for each, (_, ending) in zip(logits, pairs, strict=True)
    ]
    return torch.stack(scores).view(len(starts), len(endings))


def _score(logits: Float[Tensor, "position vocab"], tokens: Ids) -> Float[Tensor, ""]:
    return _log_probs_of(logits, tokens).sum()


def _log_probs_of(logits: Float[Tensor, "position vocab"], tokens: Ids) -> Float[Tensor, " position"]:
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens, dtype=torch.long)[:, None])[:, 0]


def _logits_after(
    model: torch.nn.Module, endings: list[Ids], first: Float[Tensor, "prompt 1 vocab"], cache: Cache
) -> Float[Tensor, "pair position vocab"]:
    """Padding stands after each ending, where causal attention never looks at it."""
    repeats = len(endings) // len(first)
    first = first.repeat_interleave(repeats, dim=0)
    ids = _padded(endings, model)
    if ids.shape[1] <= 1:
        return first
    rest = model(input_ids=ids[:, :-1], use_cache=True, **repeated(model, cache, repeats)).logits
    return torch.cat([first, rest], dim=1)


def _logits_of(
    model: torch.nn.Module, pairs: list[tuple[Ids, Ids]], shared: SharedStart = NOTHING
) -> list[Float[Tensor, "position vocab"]]:
    """The logits that predict each token of each answer, in whole sequences.

    Only positions from the first answer's start on go through the output head: with a large vocabulary the logits of
    whole prompts would be most of the memory.
    """
    ids = _padded([(start + ending)[shared.length :] for start, ending in pairs], model)
    skipped = min(len(start) for start, _ in pairs) - 1
    kept = torch.arange(skipped - shared.length, ids.shape[1], device=ids.device)
    state = shared.repeated(model, len(pairs))
    logits = _only(model(input_ids=ids, use_cache=bool(state), logits_to_keep=kept, **state).logits, kept)
    begins = [len(start) - 1 - skipped for start, _ in pairs]
    return [logits[i, begin : begin + len(pairs[i][1])] for i, begin in enumerate(begins)]


def _only(logits: Float[Tensor, "row _ vocab"], kept: Int[Tensor, " kept"]) -> Float[Tensor, "row kept vocab"]:
    """The logits at some positions; a model that does not know `logits_to_keep` gives those of all."""
    return logits if logits.shape[1] == len(kept) else logits[:, kept]


def _padded(sequences: list[Ids], model: torch.nn.Module) -> Int[Tensor, "sequence position"]:
    """Sequences of one width. What follows a sequence is never read, so that any token will do."""
    width = max(map(len, sequences))
    rows = [row + [0] * (width - len(row)) for row in sequences]
    return torch.tensor(rows, device=next(model.parameters()).device)
