import math
from decimal import Decimal

import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, KEEPS, batch, plain_moderate

from moored.selection import LengthCorrected, Moderate


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES, keep=KEEPS)
def test_it_is_algorithm_1_on_norms_times_the_root_of_the_length(scores, keep):
    losses, norms, lengths = (each.tolist() for each in scores)
    count = max(1, math.floor(Decimal(str(keep)) * len(losses)))
    corrected = [norm * math.sqrt(length) for norm, length in zip(norms, lengths, strict=True)]
    if count > 1:
        assert LengthCorrected(keep=keep)(*scores).tolist() == plain_moderate(losses, corrected, count)


def test_it_takes_the_length_out_where_token_gradients_are_unrelated():
    """One token gradient is a standard normal vector; a sample's gradient is the mean over its tokens. The norms then
    tell nothing but the length: the published rule keeps one length, the corrected one keeps all alike."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([4, 16, 64]).repeat(40)
    norms = torch.stack([torch.randn(int(n), 512, generator=draw).mean(0).norm() for n in lengths])
    losses = torch.ones(len(lengths))
    published, corrected = (lengths[rule(keep=0.3)(losses, norms, lengths)] for rule in (Moderate, LengthCorrected))
    assert {*published.tolist()} == {16}
    assert min((corrected == n).sum() for n in (4, 16, 64)) >= 6


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES)
def test_of_the_two_middle_norms_the_lower_row_wins_whatever_they_are(scores):
    """They are equally far from the median, though roots are not exact in floating point."""
    losses, norms, lengths = scores
    if len(losses) % 2 == 0:
        middle = (norms * lengths.sqrt()).argsort()[len(norms) // 2 - 1 : len(norms) // 2 + 1]
        assert LengthCorrected(keep=0.001)(torch.ones_like(losses), norms, lengths).tolist() == [middle.min().item()]


def test_answers_of_one_length_are_judged_as_the_published_rule_does():
    losses, norms, _ = batch([1.0] * 5, [1.0, 8.0, 3.0, 2.0, 9.0])
    same = torch.full((5,), 7)
    assert LengthCorrected(keep=0.4)(losses, norms, same).tolist() == Moderate(keep=0.4)(losses, norms, same).tolist()
