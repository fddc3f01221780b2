import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moored.tensors import rounding
from moored.tensors.rounding import stochastically_rounded

DTYPES = st.sampled_from([torch.bfloat16, torch.float16])


def _rounded(values, dtype, seed=0):
    return stochastically_rounded(values, dtype, torch.Generator().manual_seed(seed))


@given(value=st.floats(-1e4, 1e4, width=32), dtype=DTYPES, seed=st.integers(0, 99))
def test_each_value_becomes_one_of_its_neighbours(value, dtype, seed):
    values = torch.tensor([value])
    got, nearest = _rounded(values, dtype, seed), values.to(dtype)
    below, above = (torch.nextafter(nearest, torch.full_like(nearest, end)) for end in (-torch.inf, torch.inf))
    between = {float(nearest), float(above if values > nearest.float() else below)}
    assert got.dtype == dtype and float(got) in between


@given(dtype=DTYPES, share=st.floats(0.0, 1.0), seed=st.integers(0, 99))
def test_the_mean_is_the_value(dtype, share, seed):
    low = torch.tensor(-0.1).to(dtype)
    high = torch.nextafter(low, torch.tensor(0.0).to(dtype))
    value = low.float() + share * (high.float() - low.float())
    got = _rounded(value.expand(20_000), dtype, seed).float()
    assert abs(float((got == high.float()).float().mean()) - share) < 0.02  # More than five standard errors.


@given(dtype=DTYPES, seed=st.integers(0, 99))
def test_what_the_type_has_stays_bit_for_bit(dtype, seed):
    values = torch.randn(500, generator=torch.Generator().manual_seed(seed)).to(dtype)
    ends = torch.tensor([0.0, -0.0, torch.inf, -torch.inf]).to(dtype)
    known = torch.cat([values, ends])
    assert torch.equal(_rounded(known.float(), dtype).view(torch.int16), known.view(torch.int16))


def test_what_is_beyond_the_type_becomes_no_infinity_by_chance():
    largest = torch.finfo(torch.float16).max
    assert (_rounded(torch.full((1000,), largest + 1.0), torch.float16) == largest).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_what_is_no_coarser_or_has_no_neighbours_is_cast(dtype):
    values, generator = torch.randn(100), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert torch.equal(stochastically_rounded(values, dtype, generator).float(), values.to(dtype).float())
    assert torch.equal(generator.get_state(), before)


def test_parts_make_a_whole_of_the_same_shape(monkeypatch):
    values = torch.randn(7, 5)
    monkeypatch.setattr(rounding, "_AT_ONCE", 8)
    got = _rounded(values, torch.bfloat16)
    assert got.shape == values.shape and bool((got.float() - values).abs().max() < 0.05)
    assert _rounded(torch.zeros(0, 3), torch.bfloat16).shape == (0, 3)


def test_the_same_seed_gives_the_same_numbers():
    values = torch.randn(100)
    assert torch.equal(_rounded(values, torch.bfloat16), _rounded(values, torch.bfloat16))
    assert not torch.equal(_rounded(values, torch.bfloat16), _rounded(values, torch.bfloat16, seed=1))
