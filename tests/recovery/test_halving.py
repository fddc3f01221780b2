import pytest
from hypothesis import given
from hypothesis import strategies as st

from moored.recovery import Round, halve, schedule

ROUNDS = (Round(steps=0, prompts=8), Round(steps=2, prompts=4, most=6), Round(steps=5, prompts=8, most=2))


@given(scores=st.lists(st.integers(-100, 100), min_size=1, max_size=30, unique=True))
def test_where_rounds_agree_the_ranking_is_that_of_the_scores(scores):
    ranked = halve(len(scores), lambda one, _: float(scores[one]), ROUNDS)
    assert [each.candidate for each in ranked] == sorted(range(len(scores)), key=scores.__getitem__)
    assert [each.score for each in ranked] == sorted(map(float, scores))


@given(count=st.integers(1, 40))
def test_each_candidate_enters_as_many_rounds_as_planned(count):
    entered = []
    halve(count, lambda one, each: entered.append((one, each)) or float(one), ROUNDS)
    planned = {each: enter for _, each, enter in schedule(count, ROUNDS)}
    assert {each: sum(other is each for _, other in entered) for each in planned} == planned
    assert len(entered) == len(set(entered)) == sum(planned.values())
    assert {one for one, _ in entered} == set(range(count))
    assert list(planned)[-1] is ROUNDS[-1]


def test_a_late_verdict_overrules_an_early_one():
    scores = {ROUNDS[0]: [5, 4, 3, 2, 1, 0, -1], ROUNDS[1]: [0, 6, 5, 4, 3, 2, 1], ROUNDS[2]: [0, 0, 0, 0, 0, 8, 9]}
    ranked = halve(7, lambda one, each: float(scores[each][one]), ROUNDS)
    # 0 leaves first; of the six that are left, 6 and 5 are the best, and in the end 5.
    assert [each.candidate for each in ranked] == [5, 6, 4, 3, 2, 1, 0]
    assert [each.round for each in ranked] == [2, 2, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(("count", "rounds"), [(1, [2]), (2, [2]), (3, [1, 2]), (6, [1, 2]), (7, [0, 1, 2])])
def test_a_round_that_would_decide_nothing_is_left_out(count, rounds):
    assert [number for number, _, _ in schedule(count, ROUNDS)] == rounds
