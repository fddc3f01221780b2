"""Each sample's loss and gradient norm, in one forward and one backward pass over the whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from moored.errors import InputError
from moored.huggingface.gradients.causal_model import CausalModel, known_head, split
from moored.huggingface.gradients.experts import recorded_experts
from moored.huggingface.gradients.norm_accumulator import Record
from moored.huggingface.gradients.undisturbed import undisturbed
from moored.huggingface.gradients.use_proxies import standing_in
from moored.huggingface.models import plain_name
from moored.tensors.output_head import Head, HeadGradients, head_gradients
from moored.tensors.samples import Samples, from_ids, one_a_row


@dataclass(frozen=True)
class Scores:
    """What one scoring pass measured of each sample, on the model's device. A sample without labels has zeros."""

    losses: Float[Tensor, " sample"]
    """Mean negative log-likelihood of its supervised tokens, in nats."""
    norms: Float[Tensor, " sample"]
    """L2 norm of that loss's gradient by all trainable parameters together."""
    lengths: Int[Tensor, " sample"]
    """Its supervised tokens."""
    squares: Mapping[str, Float[Tensor, " sample"]] | None = None
    """The squared norm of the gradient by each trainable parameter, by plain name, where asked for; together norms²."""


def score(model: nn.Module, batch: Mapping[str, Any], *, by_parameter: bool = False) -> Scores:
    """Scores the samples of a batch, exactly (Algorithm 1 of arXiv 2604.17215, lines 1 and 3, for all samples).

    A sample is a row of the batch; where there are `position_ids` and no `attention_mask`, it is a document, which
    starts wherever the positions start again from 0. Its loss is the mean over its own labels, dropout is off, and
    auxiliary losses (a router's balance) do not count. The computation runs in the precision of the weights, or of
    the surrounding autocast, and accumulates in fp32.

    The model is left as found: no parameter gets a gradient or a hook call, random state, buffers, modes and
    requires_grad flags stay, also after an exception.

    Args:
        model: a causal language model of transformers, maybe with a PEFT adapter, maybe wrapped by DDP.
        batch: `input_ids` and `labels` [row, column], labels −100 where nothing is learned, and what else the model
            takes.
        by_parameter: whether to give each parameter's share of the squared norm as well; a matrix that is tied to
            the output head is one parameter.

    Raises:
        InputError: a trainable parameter whose gradient cannot be told apart by sample, no trainable parameter, or a
            variant of LoRA (DoRA, aLoRA, …).
        ModelError: an output head that is not known.
    """
    names = {p: plain_name(name) for name, p in model.named_parameters() if p.requires_grad}
    _require_whole(names)
    _require_plain_lora(model)
    parts = split(model)
    device = batch["input_ids"].device
    samples = samples_of(batch)
    record = Record(samples, tuple(batch["input_ids"].shape), by_parameter=by_parameter)
    with undisturbed(model, device) as require_no_draw, torch.enable_grad():
        head = known_head(parts, batch["input_ids"], packed=not record.rowwise, after_forward=require_no_draw)
        with standing_in(model, names, record), recorded_experts(model, names, record):
            hidden = _last_hidden_state(parts, batch)
            require_no_draw()
            # Formulas state their own precision.
            with torch.autocast(device.type, enabled=False):
                losses, gradient, lengths = _loss(parts, head, names, hidden.detach(), batch, record)
                if hidden.requires_grad:
                    torch.autograd.backward(hidden, gradient)
    record.require_all(names.values())
    return Scores(losses, record.squares.sqrt(), lengths, record.by_parameter)


def _require_whole(names: dict[nn.Parameter, str]) -> None:
    if not names:
        raise InputError("The model has no trainable parameter, so that there is no gradient to score.")
    if any(isinstance(parameter, DTensor) or hasattr(parameter, "ds_id") for parameter in names):
        raise InputError("Gradients of sharded weights cannot be scored; run without FSDP and without ZeRO stage 3.")


def _require_plain_lora(model: nn.Module) -> None:
    """aLoRA, say, would be given no hint here of where in a row it begins."""
    for name, module in model.named_modules():
        layer: Any = module
        active = layer.active_adapters if isinstance(module, LoraLayer) else []
        special = [layer.lora_variant[adapter] for adapter in active if adapter in layer.lora_variant]
        if special:
            kind = type(special[0]).__name__.removesuffix("Variant")
            raise InputError(
                f"{plain_name(name)} computes by {kind}, a variant of LoRA that cannot be scored exactly; train plain "
                "LoRA, or leave gradient selection out."
            )


def samples_of(batch: Mapping[str, Any]) -> Samples:
    """Rows, or the documents of packed rows."""
    ids = batch["input_ids"]
    starts = document_starts(batch)
    if starts is None:
        return one_a_row(*ids.shape, device=ids.device)
    of = starts.flatten().cumsum(0) - 1
    return from_ids(of, int(of[-1]) + 1)


def document_starts(batch: Mapping[str, Any]) -> Bool[Tensor, "row column"] | None:
    """The first token of each document, or None where the batch is not packed."""
    positions = batch.get("position_ids")
    if positions is None or positions.ndim != 2 or batch.get("attention_mask") is not None:
        return None
    starts = (positions == 0).expand_as(batch["input_ids"]).clone()
    starts[:, 0] = True
    return starts if starts[:, 1:].any() else None


def _last_hidden_state(parts: CausalModel, batch: Mapping[str, Any]) -> Float[Tensor, "row column dim"]:
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    return parts.backbone(**inputs, use_cache=False).last_hidden_state


def _loss(
    parts: CausalModel,
    head: Head,
    names: dict[nn.Parameter, str],
    hidden: Tensor,
    batch: Mapping[str, Any],
    record: Record,
) -> tuple[Float[Tensor, " sample"], Float[Tensor, "row column dim"], Int[Tensor, " sample"]]:
    """The losses, the gradient of their sum by the last hidden states, and the lengths; records the head's share."""
    targets = targets_of(batch).flatten()
    places = (targets != -100).nonzero()[:, 0]
    samples = record.samples
    lengths = torch.bincount(samples.of[places], minlength=samples.count)
    weight, bias = names.get(parts.weight), names.get(parts.bias) if parts.bias is not None else None
    shared = weight is not None and parts.tied
    ids = batch["input_ids"].flatten()
    made = head_gradients(
        head,
        hidden.flatten(0, 1)[places],
        targets[places],
        lengths.tolist(),
        trained=bool(weight or bias),
        rows=[ids[own] for own in samples.positions()] if shared else None,
    )
    _record_head(record, made, weight, bias, shared)
    gradient = torch.zeros_like(hidden).flatten(0, 1)
    gradient[places] = made.hidden.to(hidden.dtype)
    return made.losses, gradient.view_as(hidden), lengths


def _record_head(record: Record, made: HeadGradients, weight: str | None, bias: str | None, shared: bool) -> None:
    if weight:
        record.add(weight, made.squares.weight)
    if weight and shared:
        record.head_rows[weight] = made.squares.rows
    if bias:
        record.add(bias, made.squares.bias)


def targets_of(batch: Mapping[str, Any]) -> Int[Tensor, "row column"]:
    """The label that each position is to predict: the next one, but never another document's first or from padding."""
    labels = batch["labels"].clone()
    starts, mask = document_starts(batch), batch.get("attention_mask")
    if starts is not None:
        labels[starts] = -100
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    return targets if mask is None or mask.ndim != 2 else targets.masked_fill(mask == 0, -100)
