"""Whether one group's values are larger than another's, by ranks alone: a heavy tail moves nothing."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Real

from moored.measurement.statistics import Z_CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Superiority:
    """The probability that one of a group is larger than one of another, ties counting half.

    None where a group is empty; without an interval where it is 0 or 1, or a group has fewer than two.
    """

    probability: float | None
    low: float | None
    high: float | None
    n: tuple[int, int]

    def as_dict(self) -> dict[str, Any]:
        """The probability as it stands in `report.json`."""
        return asdict(self) | {"n": list(self.n)}


def superiority(one: Real[np.ndarray, " one"], other: Real[np.ndarray, " other"]) -> Superiority:
    """P(one > other) + P(one = other) / 2, the Mann-Whitney statistic as a share, with its 95 % interval.

    The variance is that of DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44, 837-845, from each value's
    placement in the other group; the interval is symmetric in the log-odds, so that it stays within 0 and 1.
    """
    n = (len(one), len(other))
    if not all(n):
        return Superiority(probability=None, low=None, high=None, n=n)
    placements = _placements(one, other), 1 - _placements(other, one)
    probability = float(placements[0].mean())
    if min(n) < 2 or not 0 < probability < 1:
        return Superiority(probability=probability, low=None, high=None, n=n)
    error = math.sqrt(sum(float(each.var(ddof=1)) / len(each) for each in placements))
    odds, reach = math.log(probability / (1 - probability)), Z_CONFIDENCE * error / (probability * (1 - probability))
    low, high = (1 / (1 + math.exp(-odds - sign * reach)) for sign in (-1, 1))
    return Superiority(probability=probability, low=low, high=high, n=n)


def _placements(values: Real[np.ndarray, " value"], among: Real[np.ndarray, " other"]) -> Float64[np.ndarray, " value"]:
    """For each value the share of `among` that lies below it, ties counting half."""
    ordered = np.sort(among)
    sides = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return np.mean(list(sides), axis=0) / len(ordered)
