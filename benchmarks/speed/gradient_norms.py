"""Ways to a batch's per-sample gradient norms, ours and its rivals, and the plain step that all are measured by.

A way is made of a model and a batch whose rows have prompts of one length and answers of one length. A sample's loss is
the mean over its answer's tokens; the losses' sum goes backward. All but ours let transformers' own forward pass score
no more than the answers (`logits_to_keep`); ours sees to that by itself.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F

from moored.huggingface.gradients import score

Batch = Mapping[str, Tensor]
Run = Callable[[], Tensor | None]
"""Runs once; norms [sample] if it makes any."""

_AT_ONCE = {"lora": 8, "full": 4}
"""Samples that `vmap` takes at once."""


def losses(model: Callable[..., Any], ids: Tensor, labels: Tensor) -> Tensor:
    """The mean negative log-likelihood of each row's answer."""
    answer = int((labels[0] != -100).sum())
    logits = model(input_ids=ids, logits_to_keep=answer + 1, use_cache=False).logits
    # As in transformers' own loss the targets are shifted: the last logits have none, and no logits are copied.
    targets = F.pad(ids[:, -answer:], (0, 1), value=-100)
    # Flat: along an inner axis PyTorch sums the vocabulary naively, at a cost of four digits.
    flat = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return flat.view(len(ids), answer + 1).sum(1) / answer


def limit(model: nn.Module, batch: Batch) -> Run:
    """A plain forward and backward of the whole batch, without any norm."""

    def run() -> None:
        losses(model, batch["input_ids"], batch["labels"]).sum().backward()
        model.zero_grad(set_to_none=True)

    return run


def moored(model: nn.Module, batch: Batch) -> Run:
    """Ours."""
    return lambda: score(model, batch).norms


def loop(model: nn.Module, batch: Batch) -> Run:
    """Sample by sample, and the norm of `.grad`, as papers do."""

    def norm(ids: Tensor, labels: Tensor) -> Tensor:
        losses(model, ids, labels).sum().backward()
        total = nn.utils.get_total_norm(p.grad for p in model.parameters() if p.grad is not None)
        model.zero_grad(set_to_none=True)
        return total

    pairs = list(zip(batch["input_ids"].split(1), batch["labels"].split(1), strict=True))
    return lambda: torch.stack([norm(*pair) for pair in pairs])


def opacus(model: nn.Module, batch: Batch) -> Run:
    """The norms of Opacus's ghost clipping, on a copy: its hooks stay on the layers."""
    from opacus.grad_sample import grad_sample_module_fast_gradient_clipping as ghost  # pyright: ignore

    own = copy.deepcopy(model)
    wrapped: Any = ghost.GradSampleModuleFastGradientClipping(own, loss_reduction="sum", strict=False)

    def run() -> Tensor:
        losses(wrapped, batch["input_ids"], batch["labels"]).sum().backward()
        own.zero_grad(set_to_none=True)
        return wrapped.get_norm_sample().detach()

    return run


def vmap(model: nn.Module, batch: Batch) -> Run:
    """One sample's gradient by `torch.func`, vectorized over a few samples at a time.

    All at once need the more memory the more is trained: with all parameters, a gradient of the model for each.
    On a copy with eager attention, which can be vectorized; PyTorch's own falls back to a loop, and is slower.
    """
    own: Any = copy.deepcopy(model)
    own.set_attn_implementation("eager")
    trained = {name: p.detach() for name, p in own.named_parameters() if p.requires_grad}
    # Which labels count cannot be asked inside; they are the same for all rows.
    labels = batch["labels"][:1]

    def norm(ids: Tensor) -> Tensor:
        def loss(weights: dict[str, Tensor]) -> Tensor:
            return losses(lambda **inputs: torch.func.functional_call(own, weights, kwargs=inputs), ids, labels).sum()

        gradients = torch.func.grad(loss)(trained).values()
        return torch.stack([gradient.float().square().sum() for gradient in gradients]).sum().sqrt()

    at_once = _AT_ONCE["lora" if isinstance(own, PeftModel) else "full"]
    return partial(torch.func.vmap(norm, chunk_size=at_once), batch["input_ids"][:, None])


WAYS: dict[str, Callable[[nn.Module, Batch], Run]] = {
    "limit": limit,
    "moored": moored,
    "loop": loop,
    "opacus": opacus,
    "vmap": vmap,
}
