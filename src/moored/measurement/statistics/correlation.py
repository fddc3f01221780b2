"""Rank correlation, with its interval in closed form."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from moored.measurement.statistics.intervals import Z_CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Spearman's rank correlation of n pairs; all but n are None where there is none to speak of."""

    rho: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Two-sided, of the hypothesis that the two are unrelated; the t approximation."""
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The correlation as it stands in `report.json`."""
        return asdict(self)


def spearman(x: Sequence[float | int], y: Sequence[float | int]) -> Correlation:
    r"""Spearman's rank correlation of pairs, ties at their mean rank.

    The 95 % interval is $\tanh(\operatorname{artanh} \rho \pm z \sqrt{(1 + \rho^2 / 2) / (n - 3)})$, after Bonett and
    Wright (2000), Psychometrika 65, 23-28: ranks spread more than Fisher's formula says. A perfect order shows no
    spread; its interval starts from the nearest order that is not perfect, two neighbours exchanged (our choice).

    Args:
        x: One finite number per case.
        y: The other, in the same order.

    Returns:
        The correlation; without numbers for fewer than 4 pairs, or where x or y is the same for all.

    Raises:
        ValueError: x and y are not equally many.
    """
    n = len(x)
    if n != len(y):
        raise ValueError(f"a correlation needs pairs, got {n} and {len(y)} numbers")
    if n < 4 or len(set(x)) == 1 or len(set(y)) == 1:
        return Correlation(rho=None, low=None, high=None, p_value=None, n=n)
    result: Any = stats.spearmanr(x, y)
    # Rounding can put a perfect order a hair beyond 1.
    rho = min(1.0, max(-1.0, float(result.statistic)))
    nearest = 1 - 12 / (n**3 - n)
    seen = min(nearest, max(-nearest, rho))
    half = Z_CONFIDENCE * math.sqrt((1 + seen**2 / 2) / (n - 3))
    low, high = (math.tanh(math.atanh(seen) + side * half) for side in (-1, 1))
    return Correlation(rho=rho, low=min(low, rho), high=max(high, rho), p_value=float(result.pvalue), n=n)
