import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from moored.errors import InputError
from moored.recovery import SafeLora
from moored.tensors.low_rank import LowRank, whole


def _thin(seed, *, rank=2, out=8, into=6):
    draw = torch.Generator().manual_seed(seed)
    return LowRank(torch.randn(out, rank, generator=draw), torch.randn(rank, into, generator=draw))


def _published(v):
    """Ĉ as the paper's code has it."""
    return v @ v.T / v.norm()


def _exact(v):
    """The projector on the columns of V, by the pseudo-inverse."""
    return v @ torch.linalg.pinv(v)


def _cosine(one, other):
    return torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item()


@given(seed=st.integers(0, 10_000), factored=st.tuples(st.booleans(), st.booleans()))
def test_it_is_the_dense_formula(seed, factored):
    update, difference = _thin(seed), _thin(seed + 1, rank=3)
    dense = _published(difference.whole()) @ update.whole()
    cosine = _cosine(dense, update.whole())
    threshold = min(1.0, max(0.01, cosine + 0.01))
    found = SafeLora(threshold=threshold).repair_update(
        update if factored[0] else update.whole(), difference if factored[1] else difference.whole()
    )
    assert found.cosine == pytest.approx(cosine, abs=1e-4) and found.changed is (cosine < threshold)
    torch.testing.assert_close(whole(found.update), dense if found.changed else update.whole(), rtol=1e-4, atol=1e-4)


def test_an_update_along_the_direction_stays_as_it_is():
    difference, update = _thin(0), _thin(1)
    cosine = _cosine(_published(difference.whole()) @ update.whole(), update.whole())
    found = SafeLora(threshold=cosine - 0.01).repair_update(update, difference)
    assert found.update is update and not found.changed and found.cosine == pytest.approx(cosine)


def test_the_projector_is_the_paper_s_exact_one():
    difference, update = _thin(0, rank=3), _thin(1)
    found = SafeLora(threshold=1.0, form="projector").repair_update(update, difference)
    torch.testing.assert_close(whole(found.update), _exact(difference.whole()) @ update.whole(), rtol=1e-4, atol=1e-5)
    # What it leaves, it leaves alone.
    again = SafeLora(threshold=1.0, form="projector").repair_update(found.update, difference)
    torch.testing.assert_close(whole(again.update), whole(found.update), rtol=1e-4, atol=1e-5)
    assert again.cosine == pytest.approx(1.0)


def test_a_projector_of_a_whole_direction_keeps_the_main_columns():
    difference, update = torch.randn(8, 6), _thin(1)
    found = SafeLora(threshold=1.0, form="projector", rank=2).repair_update(update, difference)
    u = torch.linalg.svd(difference).U[:, :2]
    torch.testing.assert_close(whole(found.update), u @ u.T @ update.whole(), rtol=1e-3, atol=1e-4)
    with pytest.raises(InputError, match="needs a rank"):
        SafeLora(form="projector").repair_update(update, difference)


@pytest.mark.parametrize("form", ["published", "projector"])
def test_a_weight_without_a_direction_or_an_update_stays(form):
    nothing = LowRank(torch.zeros(8, 2), torch.randn(2, 6))
    method = SafeLora(threshold=1.0, form=form)
    for update, difference in (
        (_thin(1), nothing),
        (nothing, _thin(1)),
        (_thin(1), LowRank(torch.zeros(8, 0), torch.zeros(0, 6))),
    ):
        found = method.repair_update(update, difference)
        assert found.update is update and not found.changed and found.cosine is None


def test_a_threshold_of_zero_is_declared_off():
    assert SafeLora(threshold=0.0).off and not SafeLora().off


@pytest.mark.parametrize(
    "settings", [{"threshold": 1.5}, {"threshold": -0.1}, {"rank": 4}, {"form": "projector", "rank": 0}]
)
def test_settings_that_cannot_be_meant_are_refused(settings):
    with pytest.raises(InputError, match="must"):
        SafeLora(**settings)
