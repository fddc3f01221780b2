import math
from collections import Counter
from decimal import Decimal

import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, KEEPS, batch, plain_band

from moored.selection import LossBand


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES, keep=KEEPS)
def test_what_is_kept_lies_in_the_band_written_over_lists(scores, keep):
    losses, norms, lengths = scores
    count = max(1, math.floor(Decimal(str(keep)) * len(losses)))
    kept = LossBand(keep=keep)(*scores)
    assert {*kept.tolist()} <= plain_band(losses.tolist(), count)
    assert torch.equal(kept, LossBand(keep=keep)(losses, norms.flip(0), torch.ones_like(lengths))), "losses alone count"


def test_every_sample_of_the_band_is_as_likely_as_any_other():
    """Rows 0 and 5 lie outside; two of the four inside are drawn, each in one step of two."""
    scores, steps = batch([-9.0, 1.0, 1.5, 1.0, 0.5, 12.0], [1.0] * 6), 1000
    counts = Counter(row for step in range(steps) for row in LossBand(keep=0.34)(*scores, step=step).tolist())
    assert {*counts} == {1, 2, 3, 4}
    assert all(abs(count - steps / 2) < 5 * (steps / 4) ** 0.5 for count in counts.values())


def test_a_band_too_small_is_filled_with_the_losses_nearest_the_mean():
    scores = batch([1.5, 6.5, 13.5, 6.0, 14.5, 0.0], [1.0] * 6)
    assert {tuple(LossBand(keep=0.5)(*scores, step=step).tolist()) for step in range(20)} == {(0, 1, 3)}
