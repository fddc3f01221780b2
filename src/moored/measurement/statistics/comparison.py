"""Two models on the same prompts: one paired test decides, and the interval describes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
from scipy import optimize, stats

from moored.errors import InputError
from moored.measurement.statistics.intervals import CONFIDENCE, Z_CONFIDENCE, bootstrap_mean

POWER = 0.80
Z_POWER = float(stats.norm.ppf(POWER))
Better = Literal["lower", "higher"]


class Outcome(StrEnum):
    """What a comparison of two models came to, at 5 %."""

    WORSE = "worse"
    BETTER = "better"
    NO_DIFFERENCE = "no detectable difference"
    NOT_JUDGED = "not judged"
    """Too few prompts were scored for both models to test anything."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How a measure moved from one model to another on the same prompts; only prompts scored for both count.

    `outcome` is the one decision: sentences, colours and exit codes are made from it. Numbers are None where no prompt
    was scored for both.
    """

    outcome: Outcome
    before: float | None = None
    """The reference's value on these prompts."""
    after: float | None = None
    difference: float | None = None
    """The value after minus that before."""
    low: float | None = None
    high: float | None = None
    p: float | None = None
    n: int
    gained: int | None = None
    """The number of prompts that count after but not before; None for means."""
    lost: int | None = None
    """The number of prompts that count before but not after; None for means."""
    smallest_detectable: float | None = None
    """The smallest difference that n prompts show with 80 % power; None if they show none."""

    @property
    def is_beyond_chance(self) -> bool:
        """Whether the measure moved, up or down."""
        return self.outcome in (Outcome.WORSE, Outcome.BETTER)

    @property
    def interval_disagrees(self) -> bool:
        """Whether the interval alone would decide otherwise.

        With few discordant prompts the percentile bootstrap is too narrow, and the exact test errs on the safe side.
        """
        if self.low is None or self.high is None:
            return False
        return self.is_beyond_chance == (self.low <= 0 <= self.high)


def compare_rates(
    before: Sequence[bool], after: Sequence[bool], *, better: Better, seed: int = 0, resamples: int = 10_000
) -> Comparison:
    """Compares two rates on the same prompts, in the same order: McNemar's exact test, paired bootstrap interval.

    Args:
        before: whether each prompt counts (e.g. was complied with) under the reference.
        after: the same under the other model.
        better: the direction that is wanted.
        seed: the seed of the bootstrap.
        resamples: the number of bootstrap resamples, at least 1.

    Raises:
        InputError: the two are not equally long.
    """
    n = _common_length(before, after)
    if n == 0:
        return Comparison(outcome=Outcome.NOT_JUDGED, n=0)
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    low, high = bootstrap_mean(change, seed=seed, resamples=resamples, limits=(-1.0, 1.0))
    difference, p = (gained - lost) / n, mcnemar_exact(gained, lost)
    return Comparison(
        outcome=_outcome(difference, p, better),
        before=sum(before) / n,
        after=sum(after) / n,
        difference=difference,
        low=low,
        high=high,
        p=p,
        n=n,
        gained=gained,
        lost=lost,
        smallest_detectable=smallest_detectable_difference(n, (gained + lost) / n),
    )


def compare_means(before: Sequence[float], after: Sequence[float], *, better: Better) -> Comparison:
    """Compares two means on the same prompts, in the same order: the paired t-test and its interval.

    Args:
        before: the score of each prompt under the reference.
        after: the same under the other model.
        better: the direction that is wanted.

    Raises:
        InputError: the two are not equally long.
    """
    n = _common_length(before, after)
    if n < 2:
        return Comparison(outcome=Outcome.NOT_JUDGED, n=n)
    change = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    difference, error = float(change.mean()), float(change.std(ddof=1)) / math.sqrt(n)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * error
    p = _t_test(difference, error, n)
    return Comparison(
        outcome=_outcome(difference, p, better),
        before=float(np.mean(before)),
        after=float(np.mean(after)),
        difference=difference,
        low=difference - reach,
        high=difference + reach,
        p=p,
        n=n,
        smallest_detectable=(Z_CONFIDENCE + Z_POWER) * error,
    )


def _common_length(before: Sequence[bool | float], after: Sequence[bool | float]) -> int:
    if len(before) != len(after):
        raise InputError(
            f"A paired comparison needs the same prompts on both sides, got {len(before)} before and {len(after)} "
            "after; measure both models on the same prompt file."
        )
    return len(before)


def _outcome(difference: float, p: float, better: Better) -> Outcome:
    if p >= 1 - CONFIDENCE:
        return Outcome.NO_DIFFERENCE
    return Outcome.BETTER if (difference > 0) == (better == "higher") else Outcome.WORSE


def _t_test(difference: float, error: float, n: int) -> float:
    """Returns the two-sided p-value; where all prompts moved alike, there is no spread to divide by."""
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, n - 1))


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided p-value of McNemar's (1947) exact test, a binomial test on the discordant pairs; 1 without any."""
    discordant = gained + lost
    return float(stats.binomtest(gained, discordant).pvalue) if discordant else 1.0


def smallest_detectable_difference(n: int, discordant: float) -> float | None:
    r"""The smallest difference of paired rates that `n` prompts show at 80 % power, two-sided at 5 %.

    Solves $n \delta^2 = (z_{1-\alpha/2} \sqrt{\psi} + z_{1-\beta} \sqrt{\psi - \delta^2})^2$ for $\delta$: the sample
    size of McNemar's test after Connor (1987), Biometrics 43, 207-211. $\psi$ is the share of discordant pairs; we put
    the observed one in, and $\delta$ itself where that is larger: a difference of $\delta$ takes at least so many.

    Args:
        n: Number of prompts, at least 1.
        discordant: Observed share of prompts on which the two models differ, between 0 and 1.

    Returns:
        The difference, above 0 and at most 1; None if not even a difference of 1 would show.
    """

    def excess(delta: float) -> float:
        share = max(discordant, delta)
        return delta * math.sqrt(n) - Z_CONFIDENCE * math.sqrt(share) - Z_POWER * math.sqrt(share - delta**2)

    # The exact test asks for more prompts than the formula where there are only a handful.
    if excess(1.0) < 0 or mcnemar_exact(n, 0) >= 1 - CONFIDENCE:
        return None
    return float(optimize.root_scalar(excess, bracket=(1e-9, 1.0), method="brentq").root)
