"""Several seeds on the same prompts: prompts times seeds are not independent, so whole prompts are resampled."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from moored.errors import InputError
from moored.measurement.statistics.comparison import Z_POWER
from moored.measurement.statistics.intervals import Z_CONFIDENCE, Rate, bootstrap_mean


@dataclass(frozen=True, kw_only=True)
class SeededRate:
    """One rate over several seeds on the same prompts; n counts prompts, since seeds are no new prompts."""

    rate: float
    low: float
    high: float
    n: int
    seeds: tuple[Rate, ...]

    def as_dict(self) -> dict[str, Any]:
        """The rate as it stands in `report.json`, the seeds' own rates under `seeds`."""
        return {"rate": self.rate, "low": self.low, "high": self.high, "n": self.n} | {
            "seeds": [seed.as_dict() for seed in self.seeds]
        }


def over_seeds(runs: Sequence[Sequence[bool]], *, seed: int = 0, resamples: int = 10_000) -> SeededRate:
    """The rate over several seeds of the same prompts.

    Prompts times seeds are not independent, so whole prompts are resampled, each with all its seeds.

    Args:
        runs: One sequence per seed; the prompts in the same order in each.
        seed: Of the bootstrap.
        resamples: Of the bootstrap; at least 1.

    Raises:
        InputError: If there is no seed, no prompt, or the seeds have not equally many prompts.
    """
    lengths = {len(run) for run in runs}
    if len(lengths) != 1 or lengths == {0}:
        raise InputError(
            f"a rate over seeds needs the same prompts under each seed, got {sorted(lengths)} prompts: "
            "measure each seed on the same prompt file"
        )
    by_prompt = np.asarray(runs, dtype=float).mean(axis=0)
    low, high = bootstrap_mean(by_prompt, seed=seed, resamples=resamples, limits=(0.0, 1.0))
    return SeededRate(
        rate=float(by_prompt.mean()),
        low=low,
        high=high,
        n=len(by_prompt),
        seeds=tuple(Rate.of(int(sum(run)), len(run)) for run in runs),
    )


@dataclass(frozen=True, kw_only=True)
class SeededDifference:
    """Two ways of training, each with several seeds, on the same prompts; n counts prompts."""

    difference: float
    """Mean score of the one minus that of the other, over prompts and seeds."""
    low: float
    high: float
    """Bootstrap 95 % interval, whole prompts resampled: it speaks for these seeds, not for others."""
    n: int
    seeds: tuple[float, ...]
    """The difference under each seed, whose spread shows what another seed may do."""
    smallest_detectable: float | None
    """The smallest difference that n prompts of this spread show with 80 % power; None for a single prompt."""

    def as_dict(self) -> dict[str, Any]:
        """The comparison as it stands in `report.json`."""
        return asdict(self)


def seeded_difference(
    before: Sequence[Sequence[float | bool]],
    after: Sequence[Sequence[float | bool]],
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> SeededDifference:
    """How a score of the same prompts differs between two ways of training, seed by seed.

    Args:
        before: One sequence per seed of the control; a score (or whether it counts) for each prompt, in one order.
        after: The same for the other way, the seeds in the same order.
        seed: Of the bootstrap.
        resamples: Of the bootstrap; at least 1.

    Raises:
        InputError: If there is no seed or no prompt, or the numbers of seeds or prompts differ.
    """
    shapes = {tuple(map(len, runs)) for runs in (before, after)}
    if len(shapes) != 1 or len(set(next(iter(shapes)))) != 1 or 0 in next(iter(shapes)):
        raise InputError("a comparison over seeds needs the same seeds and prompts on both sides: measure both alike")
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    by_prompt = change.mean(axis=0)
    low, high = bootstrap_mean(by_prompt, seed=seed, resamples=resamples)
    n = len(by_prompt)
    spread = float(by_prompt.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return SeededDifference(
        difference=float(by_prompt.mean()),
        low=low,
        high=high,
        n=n,
        seeds=tuple(float(each) for each in change.mean(axis=1)),
        smallest_detectable=None if spread is None else (Z_CONFIDENCE + Z_POWER) * spread,
    )
