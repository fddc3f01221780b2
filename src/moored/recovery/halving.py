"""Choosing one of many candidates by short runs: the worst leave after each round, and the rest run longer.

Source: successive halving (Jamieson and Talwalkar, arXiv 1502.07943). Ours are the rounds of fixed sizes: what many
candidates cost more than few is the first round alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Round:
    """What each candidate that is left gets."""

    steps: int
    """The steps of each trial repair; 0 goes by what its first step promises."""
    prompts: int
    """The number of prompts of each kind that a repair is scored on, ≥ 1."""
    most: int | None = None
    """So many candidates enter, the best of the round before; None lets all in."""


ROUNDS = (
    Round(steps=0, prompts=32),
    Round(steps=3, prompts=8, most=20),
    Round(steps=6, prompts=16, most=6),
    Round(steps=10, prompts=32, most=2),
)
"""Our choice."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a candidate came."""

    candidate: int
    """Its number."""
    round: int
    """The last one that it took part in, from 0."""
    score: float
    """There; lower is better."""


def schedule(candidates: int, rounds: Sequence[Round] = ROUNDS) -> list[tuple[int, Round, int]]:
    """The rounds that so many candidates go through, with their numbers and how many enter each.

    One that no more could enter than the next is left out: it would decide nothing.
    """
    enter = [candidates if each.most is None else min(each.most, candidates) for each in rounds]
    following = [*enter[1:], 0]
    return [(n, each, enter[n]) for n, each in enumerate(rounds) if enter[n] > following[n]]


def halve(candidates: int, score: Callable[[int, Round], float], rounds: Sequence[Round] = ROUNDS) -> list[Standing]:
    """Ranks candidates, the best first; scores of different rounds do not compare, and a later round goes before.

    Args:
        candidates: how many; ≥ 1.
        score: of one candidate in one round; lower is better.
        rounds: each takes no more candidates than the one before.
    """
    left = list(range(candidates))
    found: dict[int, Standing] = {}
    for number, each, enter in schedule(candidates, rounds):
        left = left[:enter]
        found |= {one: Standing(candidate=one, round=number, score=score(one, each)) for one in left}
        left.sort(key=lambda one: found[one].score)
    return sorted(found.values(), key=lambda standing: (-standing.round, standing.score))
