import math
from decimal import Decimal

import pytest
import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, KEEPS, batch, plain_moderate

from moored.selection import Moderate


def kept(keep, losses, norms, lengths=None):
    return Moderate(keep=keep)(*batch(losses, norms, lengths)).tolist()


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES, keep=KEEPS)
def test_it_is_algorithm_1_written_over_lists(scores, keep):
    losses, norms, _ = (each.tolist() for each in scores)
    count = max(1, math.floor(Decimal(str(keep)) * len(losses)))
    assert Moderate(keep=keep)(*scores).tolist() == plain_moderate(losses, norms, count)


def test_worked_by_hand():
    """Mean 3, deviation √(2·9 + 8·0)/10 = √1.8 ≈ 1.34: rows 0 and 9 fall out. The norms of rows 1 to 8 have the median
    (4 + 6)/2 = 5, from which they lie 4, 3, 1, 1, 2, 4, 95, 2 away; ⌊0.4·10⌋ = 4 of *ten* are kept."""
    losses = [0.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 6.0]
    norms = [5.0, 1.0, 2.0, 4.0, 6.0, 7.0, 9.0, 100.0, 3.0, 5.0]
    assert kept(0.4, losses, norms) == [3, 4, 5, 8]
    assert kept(0.2, losses, norms) == [3, 4]


def test_the_median_is_that_of_the_band_and_not_of_the_batch():
    """Mean 3.4, deviation 2.8: row 4 falls out by its loss. The others have the median 2.5; with it, 3."""
    losses, norms = [2.0, 2.0, 2.0, 2.0, 9.0], [1.0, 2.0, 3.0, 10.0, 11.0]
    assert kept(0.2, losses, norms) == [1]


def test_both_ends_belong_to_the_band():
    """Losses 1 and 3 lie exactly one deviation from their mean 2."""
    assert kept(0.5, [1.0, 3.0, 1.0, 3.0], [5.0, 1.0, 9.0, 4.0]) == [0, 3]


@pytest.mark.parametrize("low, high", [(0.1, 0.7), (0.1, 0.1), (1 / 3, 5 / 7)])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_rounding_pushes_no_sample_over_the_edge_of_the_band(low, high, precision):
    """Two equally large groups, or one, lie on it; with all in the band the kept norms are the middle ones."""
    for samples in range(2, 100, 2):
        losses = torch.tensor([low, high] * (samples // 2), dtype=precision)
        norms = torch.arange(samples).to(precision)
        middle = sorted(range(samples), key=lambda row, middle=(samples - 1) / 2: abs(row - middle))
        expected = sorted(middle[: max(1, samples // 5)])
        assert Moderate()(losses, norms, torch.ones(samples, dtype=torch.int64)).tolist() == expected


def test_a_band_too_small_is_filled_with_the_losses_nearest_the_mean():
    """Mean 7, deviation 5.4: rows 1 and 3 lie inside, 0 and 2 at 5.5 and 6.5 outside, row 4 at 7.5."""
    losses, norms = [1.5, 6.5, 13.5, 6.0, 14.5, 0.0], [1.0, 50.0, 2.0, 60.0, 55.0, 3.0]
    assert torch.tensor(losses).mean().item() == 7.0
    assert kept(0.34, losses, norms) == [1, 3]
    assert kept(0.5, losses, norms) == [0, 1, 3]
    assert kept(0.7, losses, norms) == [0, 1, 2, 3]


def test_ties_go_to_the_lower_row():
    same = [1.0] * 4
    assert kept(0.25, same, [3.0, 1.0, 4.0, 2.0]) == [0], "2 and 3 are equally far from 2.5"
    assert kept(0.5, same, [9.0, 2.0, 2.0, 2.0]) == [1, 2]
    assert kept(0.25, [0.0, 2.0, 0.0, 2.0], [1.0] * 4) == [0]
    assert kept(0.75, [0.0, 4.0, 2.0, 0.0, 4.0, 2.0, 0.0, 4.0], [1.0] * 8) == [0, 1, 2, 3, 4, 5]


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_of_the_two_middle_norms_the_lower_row_wins_whatever_they_are(scores):
    losses, norms, lengths = scores
    if len(losses) % 2 == 0:
        middle = norms.argsort()[len(norms) // 2 - 1 : len(norms) // 2 + 1]
        assert Moderate(keep=0.001)(torch.ones_like(losses), norms, lengths).tolist() == [middle.min().item()]


def test_at_least_one_sample_is_kept():
    assert kept(0.2, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == [1]


def test_samples_without_supervised_tokens_count_towards_the_share_only():
    """Five samples and keep 0.4 make two, chosen among three whose median is 2; row 4's loss would move the mean."""
    losses, norms = [math.nan, 1.0, 1.0, 1.0, 90.0], [math.nan, 1.0, 2.0, 2.5, 2.0]
    assert kept(0.4, losses, norms, [0, 3, 2, 1, 0]) == [2, 3]
    assert kept(0.8, losses, norms, [0, 3, 2, 1, 0]) == [1, 2, 3]


@pytest.mark.parametrize("keep", [0.2, 0.5])
def test_lengths_play_no_part(keep):
    losses, norms = [1.0, 2.0, 3.0, 2.0, 2.0], [3.0, 1.0, 2.0, 5.0, 4.0]
    assert kept(keep, losses, norms, [1, 2, 3, 4, 5]) == kept(keep, losses, norms, [50, 4, 3, 2, 1])
