import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moored.measurement import cumulative_energy, effective_rank, overlap


@given(values=st.lists(st.floats(0.1, 10), min_size=1, max_size=12), k=st.integers(1, 20))
def test_energy_is_the_share_of_the_squares(values, k):
    ordered = sorted(values, reverse=True)
    found = cumulative_energy(torch.tensor(ordered), k)
    assert found == pytest.approx(sum(v**2 for v in ordered[:k]) / sum(v**2 for v in ordered), rel=1e-5)
    assert k < len(values) or found == pytest.approx(1.0)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_equal_directions_are_counted(rank):
    assert effective_rank(torch.full((rank,), 0.7)) == pytest.approx(rank)
    assert effective_rank(torch.tensor([*[0.7] * rank, 0.0, 0.0])) == pytest.approx(rank)


def test_the_effective_rank_is_the_exponential_of_the_entropy():
    shares = [9 / 14, 4 / 14, 1 / 14]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert effective_rank(torch.tensor([3.0, 2.0, 1.0])) == pytest.approx(expected)


def _basis(seed, columns, out=40):
    return torch.linalg.qr(torch.randn(out, columns, generator=torch.Generator().manual_seed(seed))).Q


def test_overlap_is_one_within_and_zero_across():
    basis = _basis(0, 6)
    turned = basis @ torch.linalg.qr(torch.randn(6, 6)).Q
    assert overlap(basis, turned) == pytest.approx(1.0, abs=1e-5)
    assert overlap(basis[:, :2], basis) == pytest.approx(1.0, abs=1e-5)
    assert overlap(basis[:, :2], basis[:, 2:]) == pytest.approx(0.0, abs=1e-5)


def test_random_spaces_overlap_as_much_as_their_sizes_say():
    found = [overlap(_basis(seed, 5), _basis(seed + 500, 8)) for seed in range(200)]
    assert sum(found) / len(found) == pytest.approx(8 / 40, abs=0.01)
