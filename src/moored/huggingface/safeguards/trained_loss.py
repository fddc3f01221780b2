"""The check that a trainer minimizes the loss whose gradients a scored selection compares."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moored.errors import InputError
from moored.huggingface.gradients import score
from moored.huggingface.gradients.causal_model import split
from moored.huggingface.safeguards.cached_logits import relative_rounding
from moored.huggingface.safeguards.start_logits import at_rest


def require_token_loss_settings(trainer: Any, name: str) -> None:
    """Raises InputError where a setting changes the loss from the mean over the labelled tokens."""
    setting = _other_loss(trainer)
    if setting is not None:
        raise InputError(
            f"{name} compares rows by the gradient of their mean token loss, and {setting} trains another loss; leave "
            "that out, or set rule: random, which compares nothing."
        )


def _other_loss(trainer: Any) -> str | None:
    kind = getattr(trainer.args, "loss_type", None)
    if trainer.compute_loss_func is not None:
        return "compute_loss_func"
    if trainer.label_smoother is not None:
        return "label_smoothing_factor"
    return None if kind in (None, "nll", "chunked_nll") else f"loss_type: {kind}"


def require_token_loss(trainer: Any, batch: Any, name: str) -> None:
    """Raises InputError where the trainer's loss on a batch with labels is another than the one that is scored.

    A subclass or the model itself may compute any loss. A router's balance loss is left out of both.
    """
    with trainer.accelerator.autocast():
        scores = score(trainer.model, batch)
        scored = float((scores.losses * scores.lengths).sum() / scores.lengths.sum())
        trained = _loss_of(trainer, batch)
        tolerance = relative_rounding(split(trainer.model).dtype) * max(abs(scored), 1e-3)
    if abs(trained - scored) > tolerance:
        raise InputError(
            f"{name} compares rows by the gradient of their mean token loss, and {type(trainer).__name__} trains "
            f"another loss (on the first batch {trained:.4g} instead of {scored:.4g}); set rule: random, which "
            f"compares nothing, or remove {name}."
        )


def _loss_of(trainer: Any, batch: Any) -> float:
    """The trainer's loss on a batch, in eval mode; the trainer keeps no metrics of it."""
    metrics = copy.deepcopy(getattr(trainer, "_metrics", None))
    try:
        with at_rest(trainer.model), _own_token_loss(trainer):
            items = trainer._get_num_items_in_batch([batch], batch["input_ids"].device)
            return float(trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=items))
    finally:
        if metrics is not None:
            trainer._metrics = metrics


@contextmanager
def _own_token_loss(trainer: Any) -> Iterator[None]:
    """Leaves out a router's balance loss, and divides by the tokens of this process alone.

    TRL adds the balance loss itself, and the stock Trainer leaves it to the model.
    """
    switches = [
        (trainer, "aux_loss_enabled"),
        (trainer.model.config.get_text_config(), "output_router_logits"),
        (trainer.args, "average_tokens_across_devices"),
    ]
    saved = [(place, name, getattr(place, name)) for place, name in switches if hasattr(place, name)]
    try:
        for place, name, _ in saved:
            setattr(place, name, False)
        yield
    finally:
        for place, name, value in saved:
            setattr(place, name, value)
