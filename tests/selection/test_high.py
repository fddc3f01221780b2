import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, batch

from moored.selection import High


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_every_kept_norm_is_above_every_other(scores):
    losses, norms, lengths = scores
    kept = High(keep=0.5)(losses, norms, lengths).tolist()
    assert all(norms[row] > norms[other] for row in kept for other in {*range(len(norms))} - {*kept})
    assert kept == High(keep=0.5)(losses.flip(0), norms, torch.ones_like(lengths)).tolist(), "norms alone count"


def test_ties_go_to_the_lower_row():
    assert High(keep=0.5)(*batch([1.0] * 4, [2.0, 3.0, 2.0, 2.0])).tolist() == [0, 1]
