"""Against products with the whole matrices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moored.tensors.column_space import (
    Along,
    Complement,
    largest_eigenvalue,
    orthonormal,
    principal_factor,
    published_factor,
)
from moored.tensors.low_rank import LowRank, cast, inner, left_times, squared_norm, whole, zero

SIZES = st.integers(1, 6)


def _random(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _matrix(out, into, rank, seed):
    """Whole for rank 0."""
    if not rank:
        return _random(out, into, seed=seed)
    return LowRank(_random(out, rank, seed=seed), _random(rank, into, seed=seed + 1))


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(0, 4), st.integers(0, 4), st.integers(0, 99))
def test_products_of_factors_are_those_of_the_whole_matrices(out, into, rank, other_rank, seed):
    one, other = _matrix(out, into, rank, seed), _matrix(out, into, other_rank, seed + 7)
    torch.testing.assert_close(inner(one, other), (whole(one) * whole(other)).sum())
    torch.testing.assert_close(squared_norm(one), whole(one).norm() ** 2)
    operator = _random(out, out, seed=seed + 3)
    torch.testing.assert_close(whole(left_times(lambda columns: operator @ columns, one)), operator @ whole(one))
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        torch.testing.assert_close(whole(one + other), whole(one) + whole(other))
    assert whole(cast(one, torch.float32)).dtype == torch.float32


@settings(deadline=None)
@given(SIZES, SIZES, st.integers(0, 4), st.integers(0, 99))
def test_the_published_operator_is_the_dense_one(out, into, rank, seed):
    d = _matrix(out, into, rank, seed)
    dense = whole(d) @ whole(d).T / whole(d).norm()
    factor = published_factor(d)
    assert factor.shape == (out, rank or into)
    torch.testing.assert_close(factor @ factor.T, dense)
    columns = _random(out, 3, seed=seed + 5)
    torch.testing.assert_close(Complement(factor)(columns), columns - dense @ columns)
    assert largest_eigenvalue(factor) == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=0.05)


def test_without_a_direction_everything_is_off_it():
    product = LowRank(torch.zeros(4, 2), torch.ones(2, 3))
    for d in (torch.zeros(4, 3), product, zero(4, 3, torch.device("cpu"))):
        factor = published_factor(d)
        columns = torch.ones(4, 2)
        assert factor.shape == (4, 0) and torch.equal(Complement(factor)(columns), columns)
        assert largest_eigenvalue(factor) == 0.0


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 3), st.integers(1, 4), st.integers(0, 99))
def test_the_principal_directions_are_those_of_a_full_decomposition(out, into, rank, kept, seed):
    d = _matrix(out, into, rank, seed)
    before = torch.random.get_rng_state()
    factor, energy = principal_factor(d, kept)
    assert torch.equal(before, torch.random.get_rng_state())
    u, s, _ = torch.linalg.svd(whole(d))
    k = min(kept, rank or kept, out, into)
    assert factor.shape == (out, k)
    assert energy == pytest.approx(float((s[:k] ** 2).sum() / (s**2).sum()), rel=1e-6)
    torch.testing.assert_close(factor @ factor.T, (u[:, :k] * s[:k] ** 2) @ u[:, :k].T, rtol=1e-6, atol=1e-8)
    basis = orthonormal(factor)
    torch.testing.assert_close(basis.T @ basis, torch.eye(k, dtype=torch.float64))
    columns = _random(out, 3, seed=seed + 5)
    torch.testing.assert_close(Along(basis)(columns).norm(), (basis @ basis.T @ columns).norm())
    # With the part off the directions it makes the whole (Pythagoras).
    parts = Along(basis)(columns).norm() ** 2 + Complement(basis)(columns).norm() ** 2
    torch.testing.assert_close(parts, columns.norm() ** 2)
