"""A callback that logs, while training, how far the model has drifted from its aligned behaviour."""

import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moored.errors import InputError

_logger = logging.getLogger(__name__)

_WATCHED = "refusal_log_odds"


@dataclass(frozen=True, kw_only=True)
class DriftSummary:
    """How far a run drifted, each measure by its name."""

    start: Mapping[str, float]
    end: Mapping[str, float]
    stopped_at: int | None
    """The step at which the drift stopped the training; None if it did not."""


class SafetyDrift(TrainerCallback):
    """Probes the model at the start, at every evaluation and at the end, and logs `safety/<measure>`.

    It restores the model's modes and all random states: a run with the callback trains the same weights as one
    without.

    Args:
        probe: measures the model; returns numbers by name, such as `refusal_log_odds` and `kl_harmful`, in nats.
        stop: the drop of the refusal log-odds from the start at which training stops, in nats, > 0; None never stops.
        log: the function that logs, `trainer.log`; a trainer with the `SafeguardMixin` fills it in.
    """

    def __init__(
        self,
        probe: Callable[[nn.Module], dict[str, float]],
        *,
        stop: float | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        if stop is not None and not stop > 0:
            raise InputError(f"SafetyDrift(stop=...) must be more than 0 nats, got {stop}.")
        self.probe, self.stop, self.log = probe, stop, log
        self.start: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.measured_at: int | None = None
        self.stopped_at: int | None = None

    @classmethod
    def connect(cls, trainer: Trainer) -> None:
        """Gives every drift callback of a trainer the trainer's log, since callbacks never see their trainer."""
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, cls) and callback.log is None:
                callback.log = trainer.log

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        """Measures the start, or reads it from the log of a resumed run."""
        if self.stop is not None and args.eval_strategy == "no":
            raise InputError("SafetyDrift stops only at evaluations, and this run has none; set eval_strategy.")
        logged = next((entry for entry in state.log_history if f"safety/{_WATCHED}" in entry), None)
        if logged is None:
            self._measure(state, kwargs["model"])
            self.start = self.latest
        else:
            self.start = {key.removeprefix("safety/"): value for key, value in logged.items() if _is_ours(key)}
        if self.stop is not None and _WATCHED not in self.start:
            raise InputError(
                f"SafetyDrift stops only on {_WATCHED}, which its probe does not return; add it or leave out stop."
            )

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        """Measures, and stops the training if the model has drifted too far."""
        self._measure(state, kwargs["model"])
        # So that metric_for_best_model can name them.
        kwargs.get("metrics", {}).update({f"eval_safety/{name}": value for name, value in self.latest.items()})
        if self.stop is None or not self.start or self.start[_WATCHED] - self.latest[_WATCHED] <= self.stop:
            return
        self.stopped_at = state.global_step
        control.should_training_stop = True
        _logger.warning(
            "Training stops at step %d: the refusal log-odds fell from %.2f to %.2f, more than %g nats.",
            state.global_step,
            self.start[_WATCHED],
            self.latest[_WATCHED],
            self.stop,
        )

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        """Measures the end, unless the last step already did."""
        if args.load_best_model_at_end or self.measured_at != state.global_step:
            self._measure(state, kwargs["model"])

    def _measure(self, state: TrainerState, model: nn.Module) -> None:
        if self.log is None:
            raise InputError("SafetyDrift has nowhere to log to; pass log=trainer.log or use SafeguardedSFTTrainer.")
        with _evaluating(model):
            self.latest = self.probe(model)
            # Still in eval mode: TRL's log mixes in the metrics of the mode that the model is in.
            self.log({f"safety/{name}": value for name, value in self.latest.items()})
        self.measured_at = state.global_step

    def summary(self) -> DriftSummary:
        """Returns start, end and the step at which it stopped, for the run's record."""
        return DriftSummary(start=self.start, end=self.latest, stopped_at=self.stopped_at)


def _is_ours(key: str) -> bool:
    """A drift measure, not the value or share of a safeguard."""
    return key.startswith("safety/") and key.count("/") == 1


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Switches to evaluation without gradients, and restores modes and random states afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    python, numpy = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        model.eval()
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            for module, training in modes:
                module.training = training
