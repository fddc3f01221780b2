"""The rules that the published one is compared with: high, low and random."""

import itertools
from collections import Counter

import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, batch

from moored.selection import High, Low, Random


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_high_keeps_norms_above_every_other(scores):
    losses, norms, lengths = scores
    kept = High(keep=0.5)(losses, norms, lengths).tolist()
    assert all(norms[row] > norms[other] for row in kept for other in {*range(len(norms))} - {*kept})
    assert kept == High(keep=0.5)(losses.flip(0), norms, torch.ones_like(lengths)).tolist(), "norms alone count"


def test_ties_of_high_go_to_the_lower_row():
    assert High(keep=0.5)(*batch([1.0] * 4, [2.0, 3.0, 2.0, 2.0])).tolist() == [0, 1]


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_low_keeps_norms_below_every_other(scores):
    losses, norms, lengths = scores
    kept = Low(keep=0.5)(losses, norms, lengths).tolist()
    assert all(norms[row] < norms[other] for row in kept for other in {*range(len(norms))} - {*kept})
    assert kept == Low(keep=0.5)(losses.flip(0), norms, torch.ones_like(lengths)).tolist(), "norms alone count"


def test_ties_of_low_go_to_the_lower_row():
    assert Low(keep=0.5)(*batch([1.0] * 4, [2.0, 1.0, 2.0, 2.0])).tolist() == [0, 1]


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_for_random_only_the_number_of_samples_counts(scores):
    losses, norms, lengths = scores
    one, other = Random()(*scores), Random()(losses.square(), norms.flip(0), torch.ones_like(lengths))
    assert torch.equal(one, other)


def test_every_random_set_is_as_likely_as_any_other():
    """Over the steps of one seed; six pairs of four, 1 / 6 each, within five standard errors."""
    scores, steps = batch([1.0] * 4, [1.0] * 4), 2000
    counts = Counter(tuple(Random(keep=0.5)(*scores, step=step).tolist()) for step in range(steps))
    assert {*counts} == {*itertools.combinations(range(4), 2)}
    assert all(abs(count - steps / 6) < 5 * (steps * 5 / 36) ** 0.5 for count in counts.values())


def test_a_random_draw_stays_what_it_was():
    """A recipe's numbers depend on it; a change of the draw must be meant."""
    scores = batch([1.0] * 20, [1.0] * 20)
    assert Random()(*scores).tolist() == [1, 5, 10, 11]
