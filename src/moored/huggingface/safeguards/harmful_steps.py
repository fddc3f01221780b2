"""The step that fine-tuning on harmful openings would take first, weight by weight."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from moored.errors import InputError
from moored.huggingface.data import IGNORED, Supervision, supervise
from moored.huggingface.gradients.causal_model import known_head, split
from moored.huggingface.safeguards.guarded_weights import Guarded, LoraWeight, is_quantized
from moored.huggingface.safeguards.start_logits import at_rest


def harmful_steps(
    model: nn.Module,
    weights: Sequence[Guarded],
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[tuple[str, str]],
    take: Callable[[str, Tensor], None],
) -> None:
    """Hands `take` minus the gradient of each guarded weight, one at a time, in fp32 and `out × in`.

    The loss is the mean negative log-likelihood of the openings' tokens, in nats, at the weights of this moment without
    dropout. The gradient is that by the whole weight, also where only a LoRA over it is trained.

    Args:
        model: the causal language model.
        weights: the guarded ones.
        tokenizer: its tokenizer, with a chat template.
        examples: pairs of a request and how a compliant answer begins.
        take: called with a weight's name and its step.

    Raises:
        InputError: the weights are quantized, so that they have no gradient.
        ModelError: the model is not causal, or makes its logits in a way that is not known here.
    """
    batch = _batch(tokenizer, examples, next(model.parameters()).device)
    with at_rest(model), torch.enable_grad(), _watched(model, weights, take):
        _loss(model, batch).backward()


def _batch(tokenizer: Any, examples: Sequence[tuple[str, str]], device: torch.device) -> dict[str, Tensor]:
    roles = ("user", "assistant")
    turns = [[{"role": role, "content": text} for role, text in zip(roles, pair, strict=True)] for pair in examples]
    # An opening is cut off: the end of the turn is no part of it.
    rows: Any = supervise(
        Dataset.from_list([{"messages": each, "unfinished": True} for each in turns]),
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
def _watched(model: nn.Module, weights: Sequence[Guarded], take: Callable[[str, Tensor], None]) -> Iterator[None]:
    """These weights alone have a gradient for the duration, which goes to `take` and is gone before the next one's."""
    watched = [(weight, _parameter(weight)) for weight in weights]
    own = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    handles = []
    try:
        model.requires_grad_(False)
        for weight, parameter in watched:
            parameter.requires_grad_(True)
            handles.append(parameter.register_post_accumulate_grad_hook(_taker(weight, take)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, required in own:
            parameter.requires_grad_(required)


def _parameter(weight: Guarded) -> Any:
    layer = weight.layer.get_base_layer() if isinstance(weight, LoraWeight) else weight.layer
    parameter = getattr(layer, "weight", None)
    if parameter is None or is_quantized(parameter):
        raise InputError(f"{weight.name}.weight is quantized and has no gradient; harmful_direction needs it whole.")
    return parameter


def _taker(weight: Guarded, take: Callable[[str, Tensor], None]) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        assert parameter.grad is not None
        step, parameter.grad = -parameter.grad.float(), None
        take(weight.name, step.T if getattr(weight.layer, "fan_in_fan_out", False) else step)

    return hook
