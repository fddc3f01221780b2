"""How far a judge agrees with labels that somebody else gave."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moored.measurement.statistics.intervals import CONFIDENCE, Estimate, Rate

_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a judge's refusals are worth; None where nothing was said to refuse, or nothing did."""

    n: int
    refusals: int
    """How many of the n refuse by the given labels."""
    precision: Estimate | None
    """The share of what the judge calls a refusal that is one, with Wilson's 95 % interval."""
    recall: Estimate | None
    """The share of the refusals that the judge calls one, with Wilson's 95 % interval."""
    f1: Estimate | None
    """The harmonic mean of both, with the bootstrap's 95 % interval over the rows."""
    kappa: Estimate | None
    """Cohen's (1960) κ: agreement beyond chance, with the bootstrap's 95 % interval over the rows."""


def agreement(refused: Sequence[bool], judged: Sequence[bool], *, seed: int = 0) -> Agreement:
    """Compares what a judge calls a refusal with what is one, row by row.

    Args:
        refused: whether each answer refuses by the given labels.
        judged: whether the judge calls it a refusal, in the same order.
        seed: seeds the bootstrap.
    """
    given, called = np.asarray(refused, dtype=bool), np.asarray(judged, dtype=bool)
    return Agreement(
        n=len(given),
        refusals=int(given.sum()),
        precision=_share(given[called]),
        recall=_share(called[given]),
        f1=_resampled(_f1, given, called, seed),
        kappa=_resampled(_kappa, given, called, seed),
    )


def _share(hits: np.ndarray) -> Estimate | None:
    rate = Rate.of(int(hits.sum()), len(hits))
    return None if rate.rate is None else Estimate(value=rate.rate, low=rate.low, high=rate.high, n=rate.n)


def _resampled(
    score: Callable[[np.ndarray, np.ndarray], np.ndarray], given: np.ndarray, called: np.ndarray, seed: int
) -> Estimate | None:
    n = len(given)
    value = float(score(given[None], called[None])[0]) if n else np.nan
    if np.isnan(value):
        return None
    drawn = np.random.default_rng(seed).integers(n, size=(_RESAMPLES, n))
    scores = score(given[drawn], called[drawn])
    low, high = np.nanquantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=value, low=float(low), high=float(high), n=n)


def _f1(given: np.ndarray, called: np.ndarray) -> np.ndarray:
    """2 · hits / (refusals + calls) of each row of samples; no number where there are neither."""
    hits, whole = (given & called).sum(1), given.sum(1) + called.sum(1)
    return np.divide(2 * hits, whole, out=np.full(len(given), np.nan), where=whole > 0)


def _kappa(given: np.ndarray, called: np.ndarray) -> np.ndarray:
    """(agreement − chance) / (1 − chance) of each row of samples; no number where chance alone agrees on all."""
    one, other = given.mean(1), called.mean(1)
    chance = one * other + (1 - one) * (1 - other)
    agreed = (given == called).mean(1)
    return np.divide(agreed - chance, 1 - chance, out=np.full(len(given), np.nan), where=chance < 1)
