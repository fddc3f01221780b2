"""Repair by steps on an example: the model is loaded, trained, and written as its files were."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moored.errors import DivergedError, InactiveError
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.models import (
    best_device,
    copy_companions,
    dtypes_as_stored,
    load_model,
    load_tokenizer,
    require_chat_template,
    require_fit,
    require_writable,
    save_adapter_like,
    write_back,
)
from moored.recovery import OneShot
from moored.report.reading.recover import BilevelRecord, HalvingRecord, StepsRecord
from moored.tensors.rounding import stochastically_rounded
from moored.workflows.inputs.example_pool import with_own_refusal
from moored.workflows.recover.example_choice import choose_example
from moored.workflows.recover.plan import Outcome, Plan
from moored.workflows.recover.refusal_gap import RefusalGap


def repair_by_example(plan: Plan[OneShot], folder: Path) -> Outcome:
    """Writes the repaired model to a folder: an adapter as an adapter, a checkpoint as a checkpoint."""
    if plan.tuned.adapter is None:
        require_writable(plan.tuned.path)
    for source in (plan.tuned, plan.aligned):
        if source is not None:
            require_fit(source)
    method, ranking = _with_example(plan)
    tokenizer = load_tokenizer(plan.tuned)
    require_chat_template(tokenizer, plan.tuned.describe())
    model: Any = load_model(plan.tuned, trainable=True).eval()
    model.to(best_device())
    watch = RefusalGap(model, tokenizer, method.example[1]) if method.watch else None
    steps = _take_steps(model, example_loss(model, tokenizer, *method.example), method, plan.start, watch)
    _save(plan, model, folder, unchanged=not steps.kept)
    return Outcome(method=method, steps=steps, ranking=ranking)


def _with_example(plan: Plan[OneShot]) -> tuple[OneShot, Sequence[HalvingRecord | BilevelRecord]]:
    """Completes the example of the method; returns the ranking, too, if it was chosen from a pool."""
    if plan.aligned is None:
        return plan.method, ()
    if plan.pool is None:
        return with_own_refusal(plan.method, plan.aligned, plan.tuned), ()
    ranking = choose_example(plan.tuned, plan.aligned, plan.pool, plan.method, console=plan.console)
    return replace(plan.method, prompt=ranking[0].prompt, refusal=ranking[0].refusal), ranking


def _take_steps(
    model: nn.Module, loss: Callable[[], Tensor], method: OneShot, start: Path, watch: RefusalGap | None
) -> StepsRecord:
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    stored, moving = dtypes_as_stored(start, model, named), list(named.values())
    # As the files have them, which is exact, and on the CPU: the device holds weights, gradients and moments already.
    before = [parameter.detach().to("cpu", stored[name], copy=True) for name, parameter in named.items()]
    steps = method.repair(moving, loss, watch)
    _round(named, stored)
    moved = _relative_distance(before, moving)
    if steps.kept and not moved:
        raise InactiveError(f"Rounding to the precision of {start} undid every step; take more or larger steps.")
    with torch.no_grad():
        written = loss().item()
    if not (math.isfinite(written) and math.isfinite(moved)):
        raise DivergedError(
            f"The repair diverged: in the precision of {start}, its weights or their loss are not finite; take a lower "
            "learning rate or fewer steps."
        )
    seen = [] if watch is None else watch.seen
    course: dict[str, Any] = asdict(steps) | {"watched": seen}
    return StepsRecord(taken=len(steps.loss) - 1, loss_as_written=written, moved=moved, **course)


def _round(named: Mapping[str, nn.Parameter], stored: Mapping[str, torch.dtype]) -> None:
    """Rounds to the precision of the files, which makes what is reported true of what is written.

    Steps are smaller than the distance between most bf16 weights: rounding to the nearest would lose much of the
    repair.
    """
    draw = torch.Generator().manual_seed(0)
    for name, parameter in named.items():
        parameter.data = stochastically_rounded(parameter.data, stored[name], draw).to(parameter.dtype)


def _save(plan: Plan[OneShot], model: Any, folder: Path, *, unchanged: bool) -> None:
    if unchanged:
        copy_companions(plan.start, folder, weights=True)
    elif plan.tuned.adapter is not None:
        save_adapter_like(plan.start, model, folder)
    else:
        copy_companions(plan.start, folder)
        write_back(model, plan.start, folder)


def _relative_distance(before: Sequence[Tensor], after: Sequence[nn.Parameter]) -> float:
    """Computes ‖after − before‖ / ‖before‖ over all parameters, with one of `before` at a time on the device."""
    moved = norm = 0.0
    for new, kept in zip(after, before, strict=True):
        old = kept.to(new.device, new.dtype)
        moved += float((new.detach() - old).pow(2).sum())
        norm += float(old.pow(2).sum())
    return (moved / norm) ** 0.5
