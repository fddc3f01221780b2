"""Choosing one of many candidates by short trials: each round drops the worst, and the rest are tried for longer.

Source: successive halving (Jamieson and Talwalkar, arXiv 1502.07943). The rounds of fixed sizes are our choice: more
candidates make only the first round longer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Round:
    """What each remaining candidate is given in one round."""

    steps: int
    """The number of steps of the repair; 0 scores what the first step promises."""
    prompts: int
    """The number of prompts of each kind that the score is taken on; ≥ 1."""
    most: int | None = None
    """The number of candidates that enter, the best of the round before; None admits all."""


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
    """The candidate's number."""
    round: int
    """The last round that it took part in, counted from 0."""
    score: float
    """Its score in that round; lower is better."""


def schedule(candidates: int, rounds: Sequence[Round] = ROUNDS) -> list[tuple[int, Round, int]]:
    """Lists the rounds for a number of candidates, each with its number and how many candidates enter it.

    A round that as many candidates enter as the next one decides nothing, and is left out.
    """
    entering = [candidates if plan.most is None else min(plan.most, candidates) for plan in rounds]
    planned = zip(range(len(rounds)), rounds, entering, [*entering[1:], 0], strict=True)
    return [(number, plan, count) for number, plan, count, following in planned if count > following]


def halve(candidates: int, score: Callable[[int, Round], float], rounds: Sequence[Round] = ROUNDS) -> list[Standing]:
    """Ranks candidates, the best first.

    Scores of different rounds do not compare: a candidate that came further ranks higher.

    Args:
        candidates: The number of candidates; ≥ 1.
        score: Scores one candidate in one round; lower is better.
        rounds: The rounds; none admits more candidates than the one before.
    """
    left = list(range(candidates))
    standings: dict[int, Standing] = {}
    for number, plan, entering in schedule(candidates, rounds):
        left = left[:entering]
        for candidate in left:
            standings[candidate] = Standing(candidate=candidate, round=number, score=score(candidate, plan))
        left.sort(key=lambda candidate: standings[candidate].score)
    return sorted(standings.values(), key=lambda standing: (-standing.round, standing.score))
