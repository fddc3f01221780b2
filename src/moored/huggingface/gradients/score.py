"""Each sample's loss and gradient norm, in one forward and one backward pass over the whole batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.distributed.sharding import refuse_sharded_parameters
from moored.huggingface.gradients.causal_model import CausalModel, known_head, split
from moored.huggingface.gradients.experts import recorded_experts
from moored.huggingface.gradients.norm_accumulator import NormAccumulator
from moored.huggingface.gradients.undisturbed import undisturbed
from moored.huggingface.gradients.use_proxies import parameter_proxies
from moored.huggingface.models import plain_name
from moored.tensors.output_head import Head, HeadGradients, head_gradients
from moored.tensors.samples import Samples, from_ids, one_a_row


@dataclass(frozen=True)
class Scores:
    """The results of one scoring pass, one entry per sample, on the model's device; 0 for a sample without labels."""

    losses: Float[Tensor, " sample"]
    """Mean negative log-likelihood of its supervised tokens, in nats."""
    norms: Float[Tensor, " sample"]
    """L2 norm of that loss's gradient with respect to all trainable parameters together."""
    lengths: Int[Tensor, " sample"]
    """The number of its supervised tokens."""
    squares: Mapping[str, Float[Tensor, " sample"]] | None = None
    """The squared norm for each trainable parameter, by plain name, if requested; their sum is norms²."""


def score(model: nn.Module, batch: Mapping[str, Any], *, by_parameter: bool = False) -> Scores:
    """Scores the samples of a batch, exactly (Algorithm 1 of arXiv 2604.17215, lines 1 and 3, for all samples).

    A sample is a row of the batch, whose padding may stand on either side; where there are `position_ids` and no
    `attention_mask`, it is a document, which starts wherever the positions start again from 0. Its loss is the mean
    over its own labels, dropout is off, and auxiliary losses (a router's balance) do not count. The computation runs in
    the precision of the weights, or of the surrounding autocast, and accumulates in fp32.

    The model stays as it was: no parameter gets a gradient or a hook call, and random state, buffers, modes and
    requires_grad flags do not change, even after an exception.

    Args:
        model: a causal language model of transformers, possibly with a PEFT adapter or wrapped by DDP.
        batch: `input_ids` and `labels` [row, column], labels −100 where nothing is learned, and other inputs
            of the model.
        by_parameter: whether to give each parameter's share of the squared norm as well; a matrix that is tied to
            the output head is one parameter.

    Raises:
        InputError: a trainable parameter whose gradients cannot be computed sample by sample, no trainable parameter,
            or a variant of LoRA (DoRA, aLoRA, …).
        ModelError: an output head of an unknown kind.
    """
    names = {p: plain_name(name) for name, p in model.named_parameters() if p.requires_grad}
    _require_whole(names)
    _require_plain_lora(model)
    parts, batch = split(model), right_padded(batch)
    device = batch["input_ids"].device
    samples = samples_of(batch)
    accumulator = NormAccumulator(samples, tuple(batch["input_ids"].shape), by_parameter=by_parameter)
    with undisturbed(model, device) as require_no_draw, torch.enable_grad():
        head = known_head(parts, batch["input_ids"], packed=not accumulator.rowwise, after_forward=require_no_draw)
        with parameter_proxies(model, names, accumulator), recorded_experts(model, names, accumulator):
            hidden = _last_hidden_state(parts, batch)
            require_no_draw()
            # The formulas choose their own precision.
            with torch.autocast(device.type, enabled=False):
                losses, gradient, lengths = _loss(parts, head, names, hidden.detach(), batch, accumulator)
                if hidden.requires_grad:
                    torch.autograd.backward(hidden, gradient)
    accumulator.require_all(names.values())
    return Scores(losses, accumulator.squares.sqrt(), lengths, accumulator.by_parameter)


def _require_whole(names: dict[nn.Parameter, str]) -> None:
    if not names:
        raise InputError("The model has no trainable parameter, so there is no gradient to score; make some trainable.")
    refuse_sharded_parameters(names)


def _require_plain_lora(model: nn.Module) -> None:
    """Refuses variants of LoRA: aLoRA, for one, would not know here where in a row it begins."""
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


def right_padded(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Moves the padding at the beginning of each row to its end: some models read what comes first as text."""
    mask = batch.get("attention_mask")
    if mask is None or mask.ndim != 2 or mask[:, 0].all():
        return batch
    columns = torch.arange(mask.shape[1], device=mask.device)
    places = (columns + mask.bool().int().argmax(1, keepdim=True)) % mask.shape[1]
    is_by_token = {key: getattr(value, "shape", None) == mask.shape for key, value in batch.items()}
    return {key: value.gather(1, places) if is_by_token[key] else value for key, value in batch.items()}


def samples_of(batch: Mapping[str, Any]) -> Samples:
    """Assigns each position of a batch to its sample: a row, or a document of packed rows."""
    ids = batch["input_ids"]
    starts = document_starts(batch)
    if starts is None:
        return one_a_row(*ids.shape, device=ids.device)
    of = starts.flatten().cumsum(0) - 1
    return from_ids(of, int(of[-1]) + 1)


def document_starts(batch: Mapping[str, Any]) -> Bool[Tensor, "row column"] | None:
    """Marks the first token of each document; None where the batch is not packed."""
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
    accumulator: NormAccumulator,
) -> tuple[Float[Tensor, " sample"], Float[Tensor, "row column dim"], Int[Tensor, " sample"]]:
    """The losses, their sum's gradient at the last hidden states, and the lengths; records the head's part."""
    targets = targets_of(batch).flatten()
    places = (targets != -100).nonzero()[:, 0]
    samples = accumulator.samples
    lengths = torch.bincount(samples.of[places], minlength=samples.count)
    weight, bias = names.get(parts.weight), names.get(parts.bias) if parts.bias is not None else None
    shared = weight is not None and parts.tied
    ids = batch["input_ids"].flatten()
    head_part = head_gradients(
        head,
        hidden.flatten(0, 1)[places],
        targets[places],
        lengths.tolist(),
        trained=bool(weight or bias),
        rows=[ids[own] for own in samples.positions()] if shared else None,
    )
    _record_head(accumulator, head_part, weight, bias, shared)
    gradient = torch.zeros_like(hidden).flatten(0, 1)
    gradient[places] = head_part.hidden.to(hidden.dtype)
    return head_part.losses, gradient.view_as(hidden), lengths


def _record_head(
    accumulator: NormAccumulator, head_part: HeadGradients, weight: str | None, bias: str | None, shared: bool
) -> None:
    if weight:
        accumulator.add(weight, head_part.squares.weight)
    if weight and shared:
        accumulator.head_rows[weight] = head_part.squares.rows
    if bias:
        accumulator.add(bias, head_part.squares.bias)


def targets_of(batch: Mapping[str, Any]) -> Int[Tensor, "row column"]:
    """Returns the label that each position predicts: the next one, unless it starts another document or is padding."""
    labels = batch["labels"].clone()
    starts, mask = document_starts(batch), batch.get("attention_mask")
    if starts is not None:
        labels[starts] = -100
    targets = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)
    return targets if mask is None or mask.ndim != 2 else targets.masked_fill(mask == 0, -100)
