"""Where the middle half of some numbers lies."""

from collections.abc import Sequence

import numpy as np


def quartiles(values: Sequence[float | int]) -> tuple[float, float, float]:
    """The first quartile, the median and the third, with linear interpolation; at least one value."""
    low, median, high = np.quantile(np.asarray(values, dtype=float), (0.25, 0.5, 0.75)).tolist()
    return low, median, high
