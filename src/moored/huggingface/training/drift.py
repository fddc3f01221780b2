"""How far safety has drifted, logged while training."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from moored.errors import InputError

_logger = logging.getLogger(__name__)

_WATCHED = "refusal_log_odds"


class SafetyDrift(TrainerCallback):
    """Probes the model at the start, at every evaluation and at the end, and logs `safety/<measure>`.

    The model's modes and all random states are left as they were found: a run with the callback trains the same
    weights as one without.

    Args:
        probe: called with the model; gives numbers by name, say `refusal_log_odds` and `kl_harmful`, in nats.
        stop: training stops once the refusal log-odds lie more than this below the start, in nats, > 0; None never
            stops.
        log: where the numbers go, `trainer.log`; a trainer with the `SafeguardMixin` fills it in.
    """

    def __init__(
        self,
        probe: Callable[[nn.Module], dict[str, float]],
        *,
        stop: float | None = None,
        log: Callable[[dict[str, float]], None] | None = None,
    ) -> None:
        if stop is not None and not stop > 0:
            raise InputError(f"The stop of SafetyDrift is {stop}; give the nats that it may fall, more than 0.")
        self.probe, self.stop, self.log = probe, stop, log
        self.start: dict[str, float] = {}
        self.latest: dict[str, float] = {}
        self.measured_at: int | None = None
        self.stopped_at: int | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        """Measures the start, or takes it from the log of the run that is resumed."""
        if self.stop is not None and args.eval_strategy == "no":
            raise InputError("SafetyDrift stops at evaluations only, and there are none; set eval_strategy.")
        logged = next((entry for entry in state.log_history if f"safety/{_WATCHED}" in entry), None)
        if logged is None:
            self._measure(state, kwargs["model"])
            self.start = self.latest
        else:
            self.start = {key.removeprefix("safety/"): value for key, value in logged.items() if _is_ours(key)}
        if self.stop is not None and _WATCHED not in self.start:
            raise InputError(f"SafetyDrift can stop only on {_WATCHED}, which its probe does not give.")

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any):
        """Measures, and stops the training where that was asked for."""
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
        """Measures the end, unless the last step was an evaluation of these very weights."""
        if args.load_best_model_at_end or self.measured_at != state.global_step:
            self._measure(state, kwargs["model"])

    def _measure(self, state: TrainerState, model: nn.Module) -> None:
        if self.log is None:
            raise InputError("SafetyDrift has no log to write to; pass log=trainer.log or use SafeguardedSFTTrainer.")
        with _untouched(model):
            self.latest = self.probe(model)
            # Inside, because TRL's log mixes in the metrics of the mode that the model is in.
            self.log({f"safety/{name}": value for name, value in self.latest.items()})
        self.measured_at = state.global_step

    def summary(self) -> dict[str, Any]:
        """Start, end and where it stopped, for the run's record."""
        return {"start": self.start, "end": self.latest, "stopped_at": self.stopped_at}


def _is_ours(key: str) -> bool:
    """A drift measure, not the value or share of a safeguard."""
    return key.startswith("safety/") and key.count("/") == 1


@contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random states are put back afterwards."""
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
