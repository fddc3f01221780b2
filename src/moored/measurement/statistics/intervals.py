"""A rate and a mean of independent cases, with their 95 % intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
Z_CONFIDENCE = float(stats.norm.ppf(1 - (1 - CONFIDENCE) / 2))
"""How many standard errors such an interval reaches to either side."""
_BLOCK = 2**17
"""Values drawn at once; a few blocks of this size fit into the cache of a processor."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A measured number with its 95 % interval; a mean of a single value has no interval."""

    value: float
    low: float | None
    high: float | None
    n: int
    """The number of prompts that were scored."""
    unscored: int = 0
    """The number of further prompts that were asked but could not be scored; they are in no rate."""
    unfinished: int = 0
    """The number of further prompts whose answer never left the model's reasoning; they are in no rate."""
    undecided: int = 0
    """The number of the scored prompts whose label is only the judge's likelier one."""
    judged_low: float | None = None
    """The lower end of the interval that counts in how often the judge errs; None where that is not known."""
    judged_high: float | None = None
    """The upper end of it."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of n cases; all but n are None when nothing was scored."""

    rate: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, successes: int, n: int) -> "Rate":
        """The rate of `successes` among `n` with Wilson's (1927) 95 % interval, uncorrected for continuity."""
        if not 0 <= successes <= n:
            raise ValueError(f"successes must be between 0 and n = {n}, got {successes}")
        if n == 0:
            return cls(rate=None, low=None, high=None, n=0)
        interval = stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
        rate = successes / n
        # Rounding puts Wilson's limit a hair inside the rate at 0 and at n.
        return cls(rate=rate, low=min(float(interval.low), rate), high=max(float(interval.high), rate), n=n)

    def as_dict(self) -> dict[str, float | int | None]:
        """The rate as it stands in `report.json`."""
        return {"rate": self.rate, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean of n scores; all but n are None without scores, and the interval is None for a single one."""

    mean: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The mean as it stands in `report.json`."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


def mean_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 10_000) -> Mean:
    """The mean of continuous scores with its bootstrap 95 % interval (percentiles of the resampled means).

    Where a score is infinite or no number, as an overflow in fp16 leaves it, nothing counts as scored: leaving it out
    would flatter the model.
    """
    n = len(values) if np.isfinite(values).all() else 0
    if n < 2:
        return Mean(mean=float(values[0]) if n else None, low=None, high=None, n=n)
    scores = np.asarray(values, dtype=float)
    low, high = bootstrap_mean(scores, seed=seed, resamples=resamples)
    return Mean(mean=float(scores.mean()), low=low, high=high, n=n)


def bootstrap_mean(
    values: np.ndarray, *, seed: int, resamples: int, limits: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`, resampled with replacement.

    Where all values are equal, resampling shows no spread at all. If their `limits` are known, the share of cases that
    could still differ is then Wilson's upper limit for 0 of n (our choice).
    """
    value, n = float(values[0]), len(values)
    if limits is not None and (values == value).all():
        unseen = Rate.of(0, n).high or 0.0
        return value - unseen * (value - limits[0]), value + unseen * (limits[1] - value)
    means = _resampled_means(values, np.random.default_rng(seed), resamples)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _resampled_means(values: np.ndarray, random: np.random.Generator, resamples: int) -> np.ndarray:
    """Drawn in blocks, which gives the same numbers as drawing one after the other and is several times as fast."""
    block = max(1, _BLOCK // len(values))
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return np.concatenate([values[random.integers(len(values), size=(size, len(values)))].mean(1) for size in sizes])
