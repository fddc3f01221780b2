"""The contract table: every rule goes through the same tests."""

import itertools
import math
import random
from dataclasses import FrozenInstanceError, fields
from decimal import Decimal

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from tests.selection.batches import BATCHES, KEEPS, batch, random_batch

from moored.errors import InactiveError, InputError
from moored.selection import RULES, DrawingRule, SelectionRule

DRAWING = {name for name, rule in RULES.items() if issubclass(rule, DrawingRule)}
UNSCORED = {name for name, rule in RULES.items() if not rule.scored}
SEEDS, STEPS = st.integers(-(2**70), 2**70), st.integers(0, 10**6)
every_rule = pytest.mark.parametrize("name", RULES)
every_drawing_rule = pytest.mark.parametrize("name", sorted(DRAWING))
quick = settings(deadline=None, derandomize=True, max_examples=60)


def test_the_rules_that_draw_are_these():
    assert {"random", "length_matched_random", "loss_band"} == DRAWING


@every_rule
def test_a_rule_is_a_frozen_dataclass_that_fits_the_contract(name):
    rule = RULES[name]()
    assert isinstance(rule, SelectionRule)
    assert rule.keep == 0.2
    assert {each.name for each in fields(rule)} == ({"keep", "seed"} if name in DRAWING else {"keep"})
    with pytest.raises(FrozenInstanceError):
        rule.keep = 0.5


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS, step=STEPS)
def test_it_keeps_the_share_of_the_batch_ascending_and_once_each(name, scores, keep, step):
    kept = RULES[name](keep=keep)(*scores, step=step)
    samples = len(scores[0])
    assert kept.dtype == torch.int64
    assert len(kept) == max(1, math.floor(Decimal(str(keep)) * samples))
    assert all(first < second for first, second in itertools.pairwise(kept.tolist()))
    assert kept[0] >= 0 and kept[-1] < samples


@every_rule
def test_the_share_is_the_number_as_written(name):
    """0.29 · 100 is 28.999… in floating point."""
    assert len(RULES[name](keep=0.29)(*random_batch(100, 0))) == 29


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS, step=STEPS)
def test_it_is_deterministic_and_leaves_its_arguments_alone(name, scores, keep, step):
    before = [each.clone() for each in scores]
    first, second = (RULES[name](keep=keep)(*scores, step=step) for _ in range(2))
    assert torch.equal(first, second)
    assert all(map(torch.equal, before, scores))


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS, seed=st.integers(0, 2**31))
def test_it_neither_reads_nor_moves_the_global_random_state(name, scores, keep, seed):
    expected = RULES[name](keep=keep)(*scores)
    for each in (torch.manual_seed, np.random.seed, random.seed):
        each(seed)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    assert torch.equal(RULES[name](keep=keep)(*scores), expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS, power=st.integers(-20, 20))
def test_the_unit_of_the_norms_does_not_matter(name, scores, keep, power):
    """By powers of two, by which floating point scales exactly."""
    losses, norms, lengths = scores
    rule = RULES[name](keep=keep)
    assert torch.equal(rule(losses, norms * 2.0**power, lengths), rule(*scores))


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS, power=st.integers(-20, 20))
def test_neither_does_the_unit_of_the_losses(name, scores, keep, power):
    losses, norms, lengths = scores
    rule = RULES[name](keep=keep)
    assert torch.equal(rule(losses * 2.0**power, norms, lengths), rule(*scores))


@pytest.mark.parametrize("name", sorted({*RULES} - DRAWING))
@quick
@given(samples=st.integers(10, 40), keep=st.sampled_from([0.2, 0.5, 0.9]), seed=st.integers(0, 2**31))
def test_the_order_of_the_rows_does_not_matter(name, samples, keep, seed):
    """With two or more kept: the two middle norms of an even number are equally far from their median."""
    scores, order = random_batch(samples, seed), torch.randperm(samples, generator=torch.Generator().manual_seed(seed))
    rule = RULES[name](keep=keep)
    moved = rule(*(each[order] for each in scores))
    assert torch.equal(order[moved].sort().values, rule(*scores))


@pytest.mark.parametrize("name", sorted({*RULES} - DRAWING))
def test_a_rule_that_draws_nothing_ignores_the_step(name):
    scores = random_batch(30, 0)
    assert torch.equal(RULES[name]()(*scores, step=7), RULES[name]()(*scores))


@every_drawing_rule
def test_a_draw_depends_on_seed_and_step_and_no_pair_repeats_another(name):
    scores = random_batch(200, 0)
    drawn = [
        tuple(RULES[name](seed=seed)(*scores, step=step).tolist())
        for seed, step in itertools.product([-1, 0, 1, 2**32, 2**64], range(8))
    ]
    assert len({*drawn}) == len(drawn)


@every_drawing_rule
@quick
@given(seed=SEEDS, step=STEPS)
def test_any_whole_number_is_a_seed(name, seed, step):
    assert len(RULES[name](seed=seed)(*random_batch(10, 0), step=step)) == 2


@every_rule
def test_keeping_all_looks_at_nothing_and_draws_nothing(name, monkeypatch):
    """A rule that keeps every row needs no score, so none may be there."""
    monkeypatch.setattr(torch, "Generator", pytest.fail)
    scores = batch([math.nan] * 4, [math.nan] * 4, [0] * 4)
    assert RULES[name](keep=1.0)(*scores).tolist() == [0, 1, 2, 3]


@every_rule
@pytest.mark.parametrize("keep", [0.0, -0.1, 1.0000001, 20.0, math.nan, math.inf])
def test_a_share_that_cannot_be_meant_is_refused(name, keep):
    with pytest.raises(InputError, match=rf"keep must be above 0 and at most 1, got {keep}\.$"):
        RULES[name](keep=keep)


@every_rule
def test_a_single_sample_is_kept(name):
    assert RULES[name](keep=0.01)(*batch([2.0], [3.0])).tolist() == [0]


@every_rule
@quick
@given(samples=st.integers(1, 20), keep=KEEPS, loss=st.floats(-1e3, 1e3, width=32), norm=st.floats(0, 1e3, width=32))
def test_samples_that_do_not_differ_are_kept_in_full_number(name, samples, keep, loss, norm):
    kept = RULES[name](keep=keep)(*batch([loss] * samples, [norm] * samples))
    count = max(1, math.floor(Decimal(str(keep)) * samples))
    assert len({*kept.tolist()}) == count
    if name not in DRAWING:
        assert kept.tolist() == [*range(count)]


@every_rule
@quick
@given(
    scores=BATCHES.filter(lambda scores: len(scores[0]) >= 4), keep=KEEPS, junk=st.sampled_from([math.nan, math.inf])
)
def test_samples_without_a_supervised_token_count_but_take_no_part(name, scores, keep, junk):
    losses, norms, lengths = (each.clone() for each in scores)
    with_tokens = torch.arange(len(losses)) % 3 != 1
    losses[~with_tokens], norms[~with_tokens], lengths[~with_tokens] = junk, junk, 0
    kept = RULES[name](keep=keep)(losses, norms, lengths)
    wanted = min(max(1, math.floor(Decimal(str(keep)) * len(losses))), int(with_tokens.sum()))
    assert len(kept) == wanted and with_tokens[kept].all()
    losses[~with_tokens], norms[~with_tokens] = 1e6, 1e6
    assert torch.equal(RULES[name](keep=keep)(losses, norms, lengths), kept)


@every_rule
@pytest.mark.parametrize("samples", [0, 3])
def test_a_batch_of_which_nothing_can_be_kept_raises(name, samples):
    nothing = torch.zeros(samples)
    with pytest.raises(InactiveError, match=f"None of the {samples} samples has a supervised token.*; check"):
        RULES[name]()(nothing, nothing, nothing.long())


@pytest.mark.parametrize("name", sorted(RULES.keys() - UNSCORED))
@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (-math.inf, 1.0), (1.0, math.nan), (1.0, math.inf), (1.0, -0.5)]
)
def test_a_score_that_is_no_number_is_never_skipped_in_silence(name, loss, norm):
    scores = batch([math.nan, 1.0, loss, 2.0, loss], [1.0, 1.0, norm, 2.0, norm], [0, 1, 4, 2, 3])
    with pytest.raises(
        InputError, match=rf"^Sample 2 of the batch has a loss of {loss:.4g} and .* {norm:.4g}, .* check"
    ):
        RULES[name]()(*scores)


def test_the_rules_that_need_no_score_are_these():
    assert {"random"} == UNSCORED


@pytest.mark.parametrize("name", sorted(UNSCORED))
def test_a_rule_that_needs_no_score_does_without(name):
    losses, norms, lengths = random_batch(20, 0)
    unknown = torch.full_like(losses, math.nan)
    assert torch.equal(RULES[name]()(unknown, unknown, lengths), RULES[name]()(losses, norms, lengths))


@every_rule
@quick
@given(scores=BATCHES, keep=KEEPS)
def test_the_precision_in_which_scores_are_stored_does_not_matter(name, scores, keep):
    losses, norms, lengths = scores
    rule = RULES[name](keep=keep)
    assert torch.equal(rule(losses.double().requires_grad_(), norms.double(), lengths.int()), rule(*scores))
