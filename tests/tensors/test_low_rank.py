import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moored.tensors.low_rank import LowRank, compressed, shuffled_rows


def _thin(seed, rank, *, out=9, into=7):
    draw = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(out, rank, generator=draw), torch.randn(rank, into, generator=draw))


@given(seed=st.integers(0, 10_000), ranks=st.tuples(st.integers(1, 4), st.integers(1, 3)))
def test_a_difference_is_compressed_to_its_rank(seed, ranks):
    above, below = _thin(seed, ranks[0]), _thin(seed + 1, ranks[1])
    found = compressed((above + below) - below)
    assert found.b.shape[1] == found.a.shape[0] == ranks[0]
    torch.testing.assert_close(found.whole(), above.whole(), rtol=1e-4, atol=1e-5)


def test_more_columns_than_rows_are_compressed_too():
    wide = LowRank(torch.randn(3, 8), torch.randn(8, 5))
    found = compressed(wide)
    assert found.b.shape == (3, 3) and found.a.shape == (3, 5)
    torch.testing.assert_close(found.whole(), wide.whole(), rtol=1e-4, atol=1e-5)


def test_nothing_keeps_one_column_of_zeros():
    found = compressed(_thin(0, 2) - _thin(0, 2))
    assert found.b.shape == (9, 1) and not found.whole().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_is_kept(dtype):
    found = compressed(LowRank(torch.randn(4, 2).to(dtype), torch.randn(2, 3).to(dtype)))
    assert found.a.dtype == found.b.dtype == dtype


def test_differences_are_those_of_the_products():
    one, other = _thin(1, 2), _thin(2, 3)
    torch.testing.assert_close((one - other).whole(), one.whole() - other.whole())


@pytest.mark.parametrize("form", ["factored", "whole"])
def test_shuffled_rows_are_the_same_ones_elsewhere(form):
    matrix = _thin(3, 2) if form == "factored" else _thin(3, 2).whole()
    before = _thin(3, 2).whole()
    found, again, other = (shuffled_rows(matrix, seed) for seed in (1, 1, 2))
    after = found.whole() if form == "factored" else found
    places = [(row.abs() - before.abs()).norm(dim=1).argmin().item() for row in after]
    assert sorted(places) == list(range(9)) != places
    signs = [(after[at] / before[place]).sign().unique().item() for at, place in enumerate(places)]
    assert set(signs) == {-1.0, 1.0}
    one, two = (each.whole() if form == "factored" else each for each in (again, other))
    assert torch.equal(after, one) and not torch.equal(after, two)
