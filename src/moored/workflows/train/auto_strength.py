"""`strength: auto`: a few short runs that find how strong a penalty is to be for this model and this data.

A strength does not carry over from one model to another. What does is the bargain: how much of the drift of plain
fine-tuning a strength undoes, and how much of what plain fine-tuning learns it gives up. The rule is our choice.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from math import inf, isfinite, nan
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from moored.errors import DivergedError, InputError
from moored.huggingface.distributed.processes import process_count
from moored.huggingface.inference import DriftProbe
from moored.huggingface.training.arguments import sft_config
from moored.huggingface.training.build import Start, make_trainer
from moored.report.reading.record import Record
from moored.terminal import say

STEPS = 30
COARSE, FINE = (0.1, 1.0, 10.0, 100.0), (1 / 3, 3.0)
"""First tried: multiples of the strength at which the penalty would be as large as the loss, if the model drifted as it
does without. Then: multiples of the best of these."""
_HELD_OUT, _SHARE, _FEWEST = 64, 5, 8
"""The most rows to hold out, the share of them as one in so many, and the fewest (our choice)."""
_WATCHED = 1e-9
"""Measured, and too weak to act."""
_SHORT = {
    "max_steps": STEPS,
    "lr_scheduler_type": "constant",
    "warmup_steps": 0,
    "eval_strategy": "no",
    "eval_on_start": False,
    # They would leave the weights in this precision for the training that follows.
    "bf16_full_eval": False,
    "fp16_full_eval": False,
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "logging_strategy": "steps",
    "logging_steps": 1,
    "report_to": "none",
    "push_to_hub": False,
    "disable_tqdm": True,
}


@dataclass(frozen=True)
class Outcome(Record):
    """What a short run came to."""

    log_odds: float
    """How much likelier refusing a harmful request is than complying, in nats."""
    loss: float
    """On rows that it was not trained on."""
    penalty: float
    """The penalty at its end, without its strength."""


@dataclass(frozen=True, kw_only=True)
class Trial(Record):
    """A strength that was tried; None stands where the run came to no number."""

    strength: float
    log_odds: float | None
    loss: float | None
    penalty: float | None
    undone: float | None
    """The share of plain fine-tuning's drift that it has undone."""
    given_up: float | None
    """The share of plain fine-tuning's learning that it has given up."""


@dataclass(frozen=True, kw_only=True)
class AutoStrength(Record):
    """The strength that was found, and what it was chosen by."""

    strength: float
    start: Outcome
    plain: Outcome
    trials: Sequence[Trial]


def bargain(start: Outcome, plain: Outcome, found: Outcome) -> tuple[float, float]:
    """Computes the share of plain fine-tuning's drift that a run has undone, and of its learning that it gave up."""
    undone = (found.log_odds - plain.log_odds) / (start.log_odds - plain.log_odds)
    given_up = (found.loss - plain.loss) / (start.loss - plain.loss)
    return undone, given_up


def knee(start: Outcome, plain: Outcome, trials: Mapping[float, Outcome]) -> float:
    """The strength whose share of drift undone exceeds the share of learning given up by most; ties go to the weaker.

    To refuse more than the start is no gain. Runs that came to no number are left out.

    Raises:
        InputError: the plain run did not drift, or learned nothing, so that there is nothing to weigh.
    """
    if not (plain.log_odds < start.log_odds and plain.loss < start.loss):
        raise InputError(
            f"strength: auto has nothing to weigh: within {STEPS} steps the plain run went from refusal log-odds "
            f"{start.log_odds:.2f} to {plain.log_odds:.2f} and from a held-out loss of {start.loss:.3f} to "
            f"{plain.loss:.3f}; it would have to lose both. Give a number, or raise the learning rate."
        )

    def gain(strength: float) -> float:
        undone, given_up = bargain(start, plain, trials[strength])
        difference = min(undone, 1.0) - given_up
        return difference if isfinite(difference) else -inf

    return max(sorted(trials), key=gain)


def held_out_rows(rows: int) -> int:
    """How many of the training set's rows the short runs do not learn from.

    Raises:
        InputError: there are too few to hold some out.
    """
    held_out = min(_HELD_OUT, rows // _SHARE)
    if held_out < _FEWEST:
        raise InputError(
            f"strength: auto holds a {_SHARE}th of the rows out and there are {rows}; give a number, or "
            f"{_SHARE * _FEWEST} rows at least."
        )
    return held_out


class ShortRuns:
    """Runs of `STEPS` steps from one start, on the same rows in the same order, at a constant learning rate.

    Args:
        start: the model.
        settings: those of the run, for TRL.
        tokenizer: of the model.
        rows: the training set as token ids and labels; some are held out.
        probe: measures the refusal log-odds.

    Raises:
        InputError: too few rows to hold some out.
    """

    def __init__(self, start: Start, settings: Mapping[str, Any], tokenizer: Any, rows: Any, probe: DriftProbe) -> None:
        self._start, self._tokenizer, self._probe = start, tokenizer, probe
        self._settings = {key: value for key, value in settings.items() if key != "warmup_ratio"} | _SHORT
        held_out = held_out_rows(len(rows))
        shuffled = rows.shuffle(seed=0)
        self._held_out, self._rows = shuffled.select(range(held_out)), shuffled.select(range(held_out, len(rows)))

    def __call__(self, safeguards: Sequence[Any], name: str) -> tuple[Outcome, Outcome]:
        """The outcomes before the first step and after the last; `name` is the safeguard that is looked at."""
        with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
            arguments = sft_config({**self._settings, "output_dir": folder})
            per_step = arguments.train_batch_size * arguments.gradient_accumulation_steps * process_count()
            rows = self._rows.select(range(min(len(self._rows), STEPS * per_step)))
            trainer = make_trainer(self._start, arguments, self._tokenizer, rows, self._held_out, safeguards)
            before = self._measured(trainer, 0.0)
            try:
                trainer.train()
            except DivergedError:
                return before, Outcome(nan, nan, nan)
            values = [entry.get(f"safety/{name}/value") for entry in trainer.state.log_history]
            return before, self._measured(trainer, [each for each in values if each is not None][-1])

    def _measured(self, trainer: Any, penalty: float) -> Outcome:
        assert trainer.model is not None
        return Outcome(self._probe(trainer.model)["refusal_log_odds"], trainer.evaluate()["eval_loss"], penalty)


def search(
    run: Callable[[Sequence[Any], str], tuple[Outcome, Outcome]],
    safeguards: Sequence[Any],
    name: str,
    console: Console | None,
) -> AutoStrength:
    """Tries strengths for the safeguard of that name, coarsely and then around the best; the others are as they are.

    Raises:
        InputError: see `knee`; or a strength that is relative, or a penalty that the plain run leaves at 0;
            or no strength undoes a larger share of the drift than it gives up of the learning.
    """
    if any(getattr(each, "relative", False) for each in safeguards if each.name == name):
        raise InputError(f"{name} has strength: auto and relative: true, which do not go together; drop one of them.")

    def at(strength: float) -> list[Any]:
        return [replace(each, strength=strength) if each.name == name else each for each in safeguards]

    count = 1 + len(COARSE) + len(FINE)
    _tell(console, f"{name}, strength: auto: {count} short runs of {STEPS} steps")
    start, plain = run(at(_WATCHED), name)
    _tell(console, f"  at the start: {_in_words(start)}\n  1 of {count}, plain: {_in_words(plain)}")
    if not plain.penalty > 0:
        raise InputError(f"strength: auto finds {name} at {plain.penalty:g} after a plain run; give a number instead.")
    trials: dict[float, Outcome] = {}
    chosen = plain.loss / plain.penalty
    for factors in (COARSE, FINE):
        for strength in [_rounded(factor * chosen) for factor in factors]:
            trials[strength] = run(at(strength), name)[1]
            told = _in_words(trials[strength])
            _tell(console, f"  {1 + len(trials)} of {count}, strength {strength:g}: {told}")
        chosen = knee(start, plain, trials)
    _require_gain(name, chosen, bargain(start, plain, trials[chosen]))
    _tell(console, f"  chosen: {chosen:g}")
    tried = [_trial(strength, outcome, bargain(start, plain, outcome)) for strength, outcome in sorted(trials.items())]
    return AutoStrength(strength=chosen, start=start, plain=plain, trials=tried)


def _trial(strength: float, outcome: Outcome, shares: tuple[float, float]) -> Trial:
    undone, given_up = shares
    numbers = {**vars(outcome), "undone": undone, "given_up": given_up}
    return Trial(strength=strength, **{name: _or_none(number) for name, number in numbers.items()})


def _require_gain(name: str, strength: float, shares: tuple[float, float]) -> None:
    undone, given_up = shares
    if not undone > given_up:
        raise InputError(
            f"strength: auto finds no strength of {name} that pays: the best, {strength:g}, undoes {undone:.0%} of the "
            f"drift and gives up {given_up:.0%} of the learning; give a number, or use another safeguard."
        )


def _or_none(number: float) -> float | None:
    """Null where a run came to no number, as JSON has it."""
    return number if isfinite(number) else None


def _rounded(strength: float) -> float:
    """To two digits: it is no more exact than that."""
    return float(f"{strength:.1e}")


def _in_words(outcome: Outcome) -> str:
    return f"refusal log-odds {outcome.log_odds:.2f}, held-out loss {outcome.loss:.3f}"


def _tell(console: Console | None, text: str) -> None:
    if console is not None:
        say(console, text, wrap=True)
