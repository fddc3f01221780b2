import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moored.tensors.gradient_squares import (
    cheaper_form,
    dense_squares,
    direct_squares,
    ghost_squares,
    lookup_squares,
    summed_squares,
)
from moored.tensors.samples import Samples, from_ids, one_a_row

sizes = st.integers(1, 9)
owners = st.lists(st.integers(0, 3), min_size=1, max_size=30)


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _sample_by_sample(samples: Samples, of: list[int], gradient_of) -> Tensor:
    """The squared norm of each sample's gradient matrix, built in full and in double precision."""
    own = [[at for at, sample in enumerate(of) if sample == each] for each in range(samples.count)]
    return torch.stack([gradient_of(torch.tensor(each, dtype=torch.long)).square().sum().float() for each in own])


@settings(deadline=None)
@given(owners, sizes, sizes)
def test_dense_squares_are_those_of_the_matrices(of: list[int], inputs: int, outputs: int):
    samples = from_ids(torch.tensor(of), count=3)
    x, g = _draw(len(of), inputs), _draw(len(of), outputs)
    expected = _sample_by_sample(samples, of, lambda own: g[own].double().mT @ x[own].double())
    torch.testing.assert_close(dense_squares(samples, x, g), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(sizes, sizes, sizes, sizes)
def test_the_two_forms_agree(rows: int, width: int, inputs: int, outputs: int):
    x, g = _draw(rows, width, inputs), _draw(rows, width, outputs)
    torch.testing.assert_close(ghost_squares(x, g), direct_squares(x, g), rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(sizes, sizes, sizes)
def test_the_form_of_fewer_operations_is_taken(width: int, inputs: int, outputs: int):
    form, size = cheaper_form(width, inputs, outputs)
    costs = {ghost_squares: width**2 * (inputs + outputs), direct_squares: width * inputs * outputs}
    assert costs[form] == min(costs.values())
    assert size == {ghost_squares: 2 * width**2, direct_squares: inputs * outputs}[form]


def test_the_choice_of_a_form_sees_the_layers_sizes(monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(
        "moored.tensors.gradient_squares.cheaper_form", lambda *sizes: seen.append(sizes) or cheaper_form(*sizes)
    )
    dense_squares(one_a_row(5, 4), _draw(20, 3), _draw(20, 6))
    assert seen == [(4, 3, 6)]


def test_a_gradient_that_vanishes_has_no_negative_square():
    """Gradients that cancel leave the ghost form with rounding of either sign."""
    g = _draw(64, 9, 5)
    g[:, -1] = -g[:, :-1].sum(1)
    squares = ghost_squares(torch.ones(64, 9, 3), g)
    assert (squares >= 0).all() and (squares < 1e-3).all()
    products = torch.full((64, 9, 9), 3.0) * (g @ g.mT)
    assert (products.sum((1, 2)) < 0).any(), "rounding went upwards everywhere, which tests nothing"


@pytest.mark.parametrize("most", [1, 10, 10**6])
def test_chunks_change_nothing(most: int, monkeypatch: pytest.MonkeyPatch):
    samples, x, g = one_a_row(5, 4), _draw(20, 3), _draw(20, 6)
    expected = dense_squares(samples, x, g)
    monkeypatch.setattr("moored.tensors.gradient_squares._MOST", most)
    torch.testing.assert_close(dense_squares(samples, x, g), expected)


def test_half_precision_accumulates_in_fp32():
    samples = one_a_row(1, 2048)
    x, g = _draw(2048, 3).abs().bfloat16(), _draw(2048, 2).abs().bfloat16()
    expected = (g.double().mT @ x.double()).square().sum().item()
    assert dense_squares(samples, x, g).item() == pytest.approx(expected, rel=1e-5)
    total = g.double().sum(0).square().sum().item()
    assert summed_squares(samples, g).item() == pytest.approx(total, rel=1e-5)
    assert lookup_squares(samples, torch.zeros(2048, dtype=torch.long), g).item() == pytest.approx(total, rel=1e-5)


@settings(deadline=None)
@given(owners, st.data())
def test_lookup_squares_are_those_of_the_rows(of: list[int], data: st.DataObject):
    samples = from_ids(torch.tensor(of), count=3)
    ids = torch.tensor(data.draw(st.lists(st.integers(0, 6), min_size=len(of), max_size=len(of))))
    g = _draw(len(of), 4)

    def table(own: Tensor) -> Tensor:
        return torch.zeros(7, 4, dtype=torch.double).index_add_(0, ids[own], g[own].double())

    expected = _sample_by_sample(samples, of, table)
    torch.testing.assert_close(lookup_squares(samples, ids, g), expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(owners)
def test_summed_squares_are_those_of_the_sums(of: list[int]):
    samples, g = from_ids(torch.tensor(of), count=3), _draw(len(of), 4)
    expected = _sample_by_sample(samples, of, lambda own: g[own].double().sum(0))
    torch.testing.assert_close(summed_squares(samples, g), expected, rtol=1e-4, atol=1e-5)
