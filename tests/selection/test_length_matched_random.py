from collections import Counter

import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, KEEPS, batch

from moored.selection import LengthMatchedRandom, Moderate, overlap


def plain_strata(lengths):
    """Rows by length, cut into as few runs of at most five as there can be; for lengths that all differ."""
    ordered, runs = sorted(range(len(lengths)), key=lengths.__getitem__), -(-len(lengths) // 5)
    strata = [[] for _ in range(runs)]
    for place, row in enumerate(ordered):
        strata[place * runs // len(ordered)].append(row)
    return strata


@settings(deadline=None, derandomize=True)
@given(scores=BATCHES, keep=KEEPS)
def test_each_stratum_of_length_gives_as_many_as_the_published_rule_keeps_there(scores, keep):
    losses, norms, _ = scores
    lengths = norms.argsort().argsort().roll(3) + 1
    strata = plain_strata(lengths.tolist())
    published, matched = (
        {*rule(keep=keep)(losses, norms, lengths).tolist()} for rule in (Moderate, LengthMatchedRandom)
    )
    assert sorted(row for stratum in strata for row in stratum) == [*range(len(losses))]
    assert all(len(stratum) <= 5 for stratum in strata)
    for stratum in strata:
        assert len(published & {*stratum}) == len(matched & {*stratum})


def test_each_sample_of_a_stratum_is_as_likely_as_any_other():
    """Strata of rows 0 to 4 and 5 to 9; the published rule keeps rows 3 and 4 of the first, none of the second."""
    norms = [1.0, 2.0, 3.0, 4.8, 4.9, 5.3, 7.0, 8.0, 9.0, 5.4]
    scores, steps = batch([1.0] * 10, norms, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), 1500
    assert Moderate()(*scores).tolist() == [4, 5]
    drawn = [LengthMatchedRandom()(*scores, step=step).tolist() for step in range(steps)]
    counts = Counter(row for rows in drawn for row in rows)
    assert {*counts} == {*range(10)}
    assert all(abs(count - steps / 5) < 5 * (steps * 4 / 25) ** 0.5 for count in counts.values())
    assert all(first < 5 <= second for first, second in drawn)


def test_samples_of_one_length_are_all_exchangeable():
    """Not only those that happen to stand near one another in the batch."""
    scores, steps = batch([1.0] * 20, [float(row) for row in range(20)], [7] * 20), 2000
    counts = Counter(row for step in range(steps) for row in LengthMatchedRandom(keep=0.1)(*scores, step=step).tolist())
    assert {*counts} == {*range(20)}
    # Two of twenty are kept.
    assert all(abs(count - steps / 10) < 5 * (steps * 9 / 100) ** 0.5 for count in counts.values())


def test_it_matches_lengths_where_a_plain_draw_does_not():
    """Norms that fall with length, as in the paper's audit: moderate norms are moderate lengths."""
    draw = torch.Generator().manual_seed(1)
    lengths = torch.randint(5, 300, (200,), generator=draw)
    norms = lengths**-0.5 * (1 + 0.1 * torch.rand(200, generator=draw))
    losses = torch.ones(200)
    published = Moderate()(losses, norms, lengths)
    matched = LengthMatchedRandom()(losses, norms, lengths)
    kept, drawn = lengths[published].double().sort().values, lengths[matched].double().sort().values
    assert (kept - drawn).abs().max() <= 15
    assert overlap(matched, published) < 1
