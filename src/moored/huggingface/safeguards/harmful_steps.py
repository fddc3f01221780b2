"""The first step that fine-tuning on harmful openings would take, weight by weight."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from moored.errors import InputError
from moored.huggingface.data import IGNORED, Supervision, supervise
from moored.huggingface.gradients.causal_model import known_head, split
from moored.huggingface.models import is_code
from moored.huggingface.safeguards.guarded_weights import GuardedWeight
from moored.huggingface.safeguards.start_logits import at_rest


def harmful_steps(
    model: nn.Module,
    weights: Sequence[GuardedWeight],
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[tuple[str, str]],
    take: Callable[[str, Tensor], None],
) -> None:
    """Calls `take` with the negative gradient of each guarded weight, one at a time, in fp32 and `out × in`.

    The loss is the mean negative log-likelihood of the openings' tokens, in nats, at the present weights, without
    dropout. The gradient is with respect to the whole weight, even where only a LoRA on it is trained.

    Args:
        model: the causal language model.
        weights: the guarded weights.
        tokenizer: its tokenizer, with a chat template.
        examples: pairs of a request and the beginning of a compliant answer.
        take: called with a weight's name and its step.

    Raises:
        InputError: the weights are quantized and so have no gradient.
        ModelError: the model is not causal, or computes its logits in an unknown way.
    """
    batch = _batch(tokenizer, examples, next(model.parameters()).device)
    with at_rest(model), torch.enable_grad(), _watched(model, weights, take):
        _loss(model, batch).backward()


def _batch(tokenizer: Any, examples: Sequence[tuple[str, str]], device: torch.device) -> dict[str, Tensor]:
    roles = ("user", "assistant")
    turns = [[{"role": role, "content": text} for role, text in zip(roles, pair, strict=True)] for pair in examples]
    # An opening is unfinished: it does not teach the end of the turn.
    rows: Any = supervise(
        [{"messages": each, "unfinished": True} for each in turns],
        Supervision(tokenizer=tokenizer),
        where="the harmful openings",
    )
    columns = {"input_ids": 0, "labels": IGNORED}
    padded = {
        name: pad_sequence([torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=value).to(device)
        for name, value in columns.items()
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in rows], device=device)
    mask = torch.arange(padded["input_ids"].shape[1], device=device) < lengths[:, None]
    return {**padded, "attention_mask": mask.long()}


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    parts, targets = split(model), batch["labels"][:, 1:]
    head = known_head(parts, batch["input_ids"], packed=False, after_forward=lambda: None)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    hidden = parts.backbone(**inputs, use_cache=False).last_hidden_state[:, :-1]
    places = targets != IGNORED
    logits = head.logits(hidden[places], slice(None))
    return nn.functional.cross_entropy(logits, targets[places])


@contextmanager
def _watched(model: nn.Module, weights: Sequence[GuardedWeight], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Lets only these weights have gradients, each of which goes to `take` and is freed before the next is computed."""
    parameters = [_parameter(weight) for weight in weights]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    handles = []
    try:
        model.requires_grad_(False)
        for weight, parameter in zip(weights, parameters, strict=True):
            parameter.requires_grad_(True)
            handles.append(parameter.register_post_accumulate_grad_hook(_taker(weight, take)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in flags:
            parameter.requires_grad_(required)


def _parameter(weight: GuardedWeight) -> Any:
    parameter = weight.below_adapters
    if parameter is None or is_code(parameter):
        raise InputError(
            f"{weight.stored} is quantized and has no gradient; train an unquantized model, or remove "
            "harmful_direction."
        )
    return parameter


def _taker(weight: GuardedWeight, take: Callable[[str, Tensor], None]) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        step, parameter.grad = -parameter.grad.float(), None
        take(weight.name, weight.as_matrix(step))

    return hook
