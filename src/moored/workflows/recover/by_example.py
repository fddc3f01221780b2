"""Repair by steps on an example: the model is loaded, moved and written as its files were."""

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moored.embedded.prompts import openings
from moored.errors import DivergedError, InactiveError
from moored.huggingface.data import render_prompt
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.inference import continuation_log_probs
from moored.huggingface.models import (
    ModelSource,
    best_device,
    copy_companions,
    disk_errors,
    dtypes_as_stored,
    load_model,
    load_tokenizer,
    require_chat_template,
    require_same_tensors,
    save_adapter_like,
)
from moored.measurement import any_of
from moored.recovery import OneShot
from moored.tensors.rounding import stochastically_rounded
from moored.workflows.inputs.example_pool import unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.inputs.refusal_stems import stems

WATCHED = 12
"""Pairs of a harmful request and its twin."""
_STEMS = 9
"""Refusals whose beginnings are looked for, beside the example's own."""


def repair_by_example(folder: Path, source: ModelSource, method: OneShot, dtype: torch.dtype) -> dict[str, Any]:
    """Writes the repaired model to a folder.

    Returns:
        Steps `taken` and `kept`, the `learning_rate`, the `loss` before and after each and `loss_as_written`, the
        relative distance `moved`, and what was `watched`: for each step the mean probability of a refusal, of the
        harmful requests and of their twins.
    """
    start = Path(source.path) if source.adapter is None else source.adapter
    tokenizer = load_tokenizer(source)
    require_chat_template(tokenizer, source.describe())
    model: Any = load_model(source, dtype=dtype, trainable=True).eval()
    model.to(best_device())
    prompt, refusal = method.example
    watch = RefusalGap(model, tokenizer, refusal) if method.watch else None
    steps = _take_steps(model, example_loss(model, tokenizer, prompt, refusal), method, start, watch)
    if not steps["kept"]:
        copy_companions(start, folder, weights=True)
    elif source.adapter is not None:
        save_adapter_like(start, model, folder)
    else:
        _save_checkpoint(start, model, folder)
    return {**steps, "watched": [] if watch is None else watch.seen}


class RefusalGap:
    """How much likelier a model refuses harmful requests than their harmless twins, from forward passes alone.

    A repair by one refusal makes all refusals likelier, those of harmless requests too, and the log-odds of both rise
    together; the gap between the probabilities has a top. Our choice.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, refusal: str) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._stems = stems([refusal, *openings().refusing[:_STEMS]])
        pairs = spread(unpooled_pairs(), WATCHED)
        self._prompts = [render_prompt(tokenizer, text) for pair in pairs for text in (pair.harmful, pair.twin)]
        self.seen: list[dict[str, float]] = []
        """What each call found."""

    def __call__(self) -> float:
        """The gap, from −1 to 1, at the model's present weights."""
        refused = any_of(continuation_log_probs(self._model, self._tokenizer, self._prompts, self._stems))
        harmful, harmless = (float(each.mean()) for each in refused.view(-1, 2).unbind(1))
        self.seen.append({"harmful": harmful, "harmless": harmless})
        return harmful - harmless


def _take_steps(
    model: nn.Module, loss: Callable[[], Tensor], method: OneShot, start: Path, watch: RefusalGap | None
) -> dict[str, Any]:
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    stored, moving = dtypes_as_stored(start, model, named), list(named.values())
    # As the files have them, which is exact, and on the CPU: the device holds weights, gradients and moments already.
    before = [parameter.detach().to("cpu", stored[name], copy=True) for name, parameter in named.items()]
    steps = method.repair(moving, loss, watch)
    draw = torch.Generator().manual_seed(0)
    for name, parameter in named.items():
        # To the precision of the files, so that what is reported is true of what is written. Steps are smaller than
        # those between most bf16 weights: rounded to the nearest, much of the repair would be gone.
        parameter.data = stochastically_rounded(parameter.data, stored[name], draw).to(parameter.dtype)
    moved = _relative_distance(before, moving)
    if steps.kept and not moved:
        raise InactiveError(f"Rounding to the precision of {start} undid every step; take more or larger ones.")
    with torch.no_grad():
        written = loss().item()
    if not (math.isfinite(written) and math.isfinite(moved)):
        raise DivergedError(
            f"The repair diverged: in the precision of {start} its weights or their loss are not finite; take a lower "
            "learning rate or fewer steps."
        )
    return {"taken": len(steps.loss) - 1, **asdict(steps), "loss_as_written": written, "moved": moved}


def _save_checkpoint(start: Path, model: Any, folder: Path) -> None:
    """Each weight in the precision that it has in the start, everything else of its folder as it is."""
    tensors = {n: t for n, t in [*model.named_parameters(), *model.named_buffers()] if t.is_floating_point()}
    for name, dtype in dtypes_as_stored(start, model, tensors).items():
        tensors[name].data = tensors[name].data.to(dtype)
    with disk_errors():
        model.save_pretrained(folder)
    require_same_tensors(start, folder, model)
    copy_companions(start, folder)


def _relative_distance(before: list[Tensor], after: list[nn.Parameter]) -> float:
    """‖after − before‖ / ‖before‖ over all moved parameters, one of `before` at a time beside those `after`."""
    moved = norm = 0.0
    for new, kept in zip(after, before, strict=True):
        old = kept.to(new.device, new.dtype)
        moved += float((new.detach() - old).pow(2).sum())
        norm += float(old.pow(2).sum())
    return (moved / norm) ** 0.5
