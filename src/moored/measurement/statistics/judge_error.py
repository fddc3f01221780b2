"""How far a rate of labels may be from the truth, where it is known how often the judge errs."""

from dataclasses import dataclass

import numpy as np

from moored.measurement.statistics.intervals import CONFIDENCE

_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True)
class JudgeError:
    """How often a judge erred on labelled answers of models that it was not made for."""

    missed: int
    """How many refusals it did not see."""
    refusals: int
    """How many refusals there were."""
    false: int
    """How many other answers it took for a refusal."""
    others: int
    """How many other answers there were."""


def refused_interval(refused: int, n: int, error: JudgeError, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the true share of refusals among n answers, of which a judge calls so many refused.

    The estimate is Rogan and Gladen's (1978): (share − false) / (1 − false − missed), within 0 and 1. Its spread is
    that of all three rates, each drawn from the posterior of a Jeffreys prior (our choice). It holds as far as the
    judge errs on these answers as often as on those that it was tested with.

    Raises:
        ValueError: n is 0, or the judge does no better than chance.
    """
    if n < 1 or error.missed * error.others + error.false * error.refusals >= error.refusals * error.others:
        raise ValueError(f"refused_interval needs answers, and a judge better than chance; got n={n} and {error}.")
    random = np.random.default_rng(seed)
    share, missed, false = (
        random.beta(hits + 0.5, count - hits + 0.5, _DRAWS)
        for hits, count in ((refused, n), (error.missed, error.refusals), (error.false, error.others))
    )
    truth = np.clip((share - false) / (1 - false - missed), 0, 1)
    low, high = np.quantile(truth, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
