"""A run watched step by step, and what its gradients must be, computed by plain autograd.

Two runs that differ in a penalty alone have the same gradient of the loss at the second step if the penalty was zero
at the first; what their gradients differ by there is the penalty's.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from tests.tiny import tiny_tokenizer
from torch import Tensor
from torch.func import functional_call
from transformers import TrainerCallback

from moored.huggingface.data import token_ids

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

WORDS = ("I", " canno", " help")
IDS = token_ids(WORDS, tiny_tokenizer())
LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}
QUIET = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1}
QUIET |= {"dataloader_pin_memory": False, "optim": "sgd", "learning_rate": 0.05, "lr_scheduler_type": "constant"}
QUIET |= {"max_grad_norm": 0.0, "max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
TRL = {**QUIET, "bf16": False, "activation_checkpointing": False}
Weights = dict[str, Tensor]


class Fetched(_Trainer):
    """Keeps the micro-batches of each step as they were fetched; it stands behind the safeguards."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, items = super().get_batch_samples(*args, **kwargs)
        vars(self).setdefault("fetched", []).append(copy.deepcopy(batches))
        return batches, items


class Trained(_Trainer):
    """Keeps the micro-batches of each step that are trained on; it stands before the safeguards."""

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        batches, items = super().get_batch_samples(*args, **kwargs)
        vars(self).setdefault("chosen", []).append(copy.deepcopy(batches))
        return batches, items


class Watch(TrainerCallback):
    """Keeps weights and gradients as the optimizer finds them."""

    def __init__(self) -> None:
        self.weights: list[Weights] = []
        self.gradients: list[Weights] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        trained = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self.weights.append({name: each.detach().clone() for name, each in trained.items()})
        self.gradients.append({name: each.grad.clone() for name, each in trained.items() if each.grad is not None})


def watched(kind: type, *guards: type) -> type:
    """A trainer of some kind, with the safeguards' mixin between what keeps its batches."""
    return type(kind.__name__, (Trained, *guards, Fetched, kind), {})


def run(make: Callable[..., Any], safeguards: Sequence[Any] = ()) -> Any:
    """A trainer after its run, with its `watch`; both runs of a pair draw the same random numbers."""
    torch.manual_seed(0)
    trainer = make(safeguards)
    trainer.watch = Watch()
    trainer.add_callback(trainer.watch)
    torch.manual_seed(0)
    trainer.train()
    return trainer


def distance(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """‖found − expected‖ / ‖expected‖ over all weights; one that `expected` lacks must be zero."""
    names = found.keys() | expected.keys()
    zero = torch.zeros(())
    apart = sum(float((found.get(name, zero) - expected.get(name, zero)).square().sum()) for name in names)
    size = sum(float(each.square().sum()) for each in expected.values())
    assert size > 1e-12, "there is nothing to compare with"
    return (apart / size) ** 0.5


def penalty_gradient(held: Any, plain: Any, step: int = 1) -> Weights:
    """What two runs' gradients differ by at a step."""
    here, there = held.watch.gradients[step], plain.watch.gradients[step]
    return {name: here[name] - there[name] for name in here}


def of_update_norm(trainer: Any, strength: float, step: int = 1) -> Weights:
    """The gradient of strength · Σ ‖ΔW‖² (of LoRA without its scale), from the weights of the first step."""
    start, now = trainer.watch.weights[0], _leaves(trainer.watch.weights[step])
    if any("lora_A" in name for name in now):
        pairs = [(name.replace("lora_A", "lora_B"), name) for name in now if "lora_A" in name]
        updates = [now[b] @ now[a] - start[b] @ start[a] for b, a in pairs]
    else:
        # T5 keeps a table of positions inside its layers; those that are outside have no number in their names.
        kinds = (torch.nn.Linear, torch.nn.Embedding)
        inside = [
            f"{name}.weight"
            for name, module in trainer.model.named_modules()
            if isinstance(module, kinds) and any(part.isdigit() for part in name.split("."))
        ]
        updates = [now[name] - start[name] for name in inside]
    value = strength * torch.stack([update.square().sum() for update in updates]).sum()
    return _gradients(value, now)


def of_safety_tokens(trainer: Any, strength: float, step: int = 1) -> Weights:
    """The gradient of strength · mean (z − z₀)² over the labelled positions of the step and the salient tokens."""
    start, now = trainer.watch.weights[0], _leaves(trainer.watch.weights[step])
    batches = trainer.chosen[step]
    total = torch.zeros(())
    for batch in batches:
        places = targets(batch) != -100
        before = logits(trainer.model, start, batch)[places][:, IDS].detach()
        total = total + (logits(trainer.model, now, batch)[places][:, IDS] - before).square().sum()
    count = sum(int((targets(batch) != -100).sum()) for batch in batches)
    return _gradients(strength * total / (count * len(IDS)), now)


def of_mean_loss(trainer: Any, batches: Sequence[Any], weights: Weights) -> Weights:
    """The gradient of the mean negative log-likelihood of all labels of some batches."""
    now, total, count = _leaves(weights), torch.zeros(()), 0
    for batch in batches:
        wanted = targets(batch)
        places = wanted != -100
        likely = logits(trainer.model, now, batch)[places].log_softmax(-1)
        total = total - likely.gather(1, wanted[places][:, None]).sum()
        count += int(places.sum())
    return _gradients(total / count, now)


def targets(batch: Mapping[str, Any]) -> Tensor:
    """The label that each position predicts."""
    labels, positions = batch["labels"].clone(), batch.get("position_ids")
    if positions is not None and batch.get("attention_mask") is None:
        labels[positions.expand_as(labels) == 0] = -100
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)


def logits(model: Any, weights: Weights, batch: Mapping[str, Any]) -> Tensor:
    """The model's logits with other weights, without dropout."""
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask", "position_ids") if batch.get(key) is not None}
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        return functional_call(model, weights, kwargs={**inputs, "use_cache": False}).logits
    finally:
        for module, mode in modes:
            module.training = mode


def documents(batch: Mapping[str, Any]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The token ids and labels of each row, or packed document, that has something to learn."""
    ids, labels, positions = batch["input_ids"], batch["labels"], batch.get("position_ids")
    if positions is not None and batch.get("attention_mask") is None:
        starts = [*(positions[0] == 0).nonzero()[:, 0].tolist(), ids.shape[1]]
        cuts = [(0, slice(*pair)) for pair in pairwise(starts)]
    else:
        # Rows end at their last label here; what comes behind is padding.
        ends = [int((row != -100).nonzero()[-1]) + 1 if (row != -100).any() else 0 for row in labels]
        cuts = [(row, slice(0, end)) for row, end in enumerate(ends)]
    rows = [(tuple(ids[row, own].tolist()), tuple(labels[row, own].tolist())) for row, own in cuts]
    return [row for row in rows if any(label != -100 for label in row[1][1:])]


def norm_of(trainer: Any, document: tuple[tuple[int, ...], tuple[int, ...]], weights: Weights) -> float:
    """The norm of a row's gradient, by a backward pass of its own."""
    ids, labels = (torch.tensor([each]) for each in document)
    gradients = of_mean_loss(trainer, [{"input_ids": ids, "labels": labels}], weights)
    return float(sum(each.square().sum() for each in gradients.values()) ** 0.5)


def _leaves(weights: Weights) -> Weights:
    return {name: each.clone().requires_grad_() for name, each in weights.items()}


def _gradients(value: Tensor, leaves: Weights) -> Weights:
    return dict(zip(leaves, torch.autograd.grad(value, [*leaves.values()], materialize_grads=True), strict=True))
