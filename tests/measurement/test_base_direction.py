import math

import numpy as np
import pytest
import torch
from scipy import stats

from moored.measurement import alignment, shuffled_cosines, update_cosines

DRAW = torch.Generator().manual_seed(0)


def test_the_update_is_minus_the_gradient():
    r = torch.tensor([3.0, -4.0])
    gradients = torch.tensor([[-3.0, 4.0], [6.0, -8.0], [4.0, 3.0], [-1.0, 0.0]])
    assert update_cosines(gradients, r).tolist() == pytest.approx([1, -1, 0, 0.6])


def test_a_gradient_that_vanishes_has_no_cosine_and_no_part_in_n():
    cosines = update_cosines(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([1.0, 1.0]))
    assert math.isnan(cosines[0]) and cosines[1] == pytest.approx(-math.sqrt(0.5))
    found = alignment(cosines, cosines[:, None], torch.ones(2), {"all": [0, 1], "first": [0]})
    assert (found.groups["all"].n, found.groups["first"].n, found.norm_cosine.n) == (1, 0, 1)
    assert found.groups["first"].mean is None and found.control_means["first"] is None


def test_the_control_keeps_coordinates_and_magnitudes_and_shuffles_signs():
    r = torch.tensor([3.0, -4.0, 5.0])
    found = shuffled_cosines(-torch.eye(3), r, draws=50, seed=0)
    assert torch.allclose(found.abs(), (r.abs() / r.norm()).double()[:, None].expand(3, 50))
    assert (found < 0).sum(0).eq(1).all(), "one sign of three is negative, whatever the draw"
    assert {tuple(each) for each in (found < 0).T.tolist()} == {
        (True, False, False), (False, True, False), (False, False, True)
    }  # fmt: skip
    assert torch.equal(found, shuffled_cosines(-torch.eye(3), r, draws=50, seed=0))
    assert not torch.equal(found, shuffled_cosines(-torch.eye(3), r, draws=50, seed=1))


def test_what_leads_back_lies_beyond_the_control_and_what_does_not_within():
    r, noise = torch.randn(300, generator=DRAW), torch.randn(40, 300, generator=DRAW)
    for pull, beyond in ((0.5, True), (0.0, False)):
        gradients = noise - pull * r
        cosines, shuffled = update_cosines(gradients, r), shuffled_cosines(gradients, r, draws=200, seed=0)
        found = alignment(cosines, shuffled, gradients.norm(dim=1), {"all": range(40)})
        mean = found.groups["all"].mean
        chance = found.control_means["all"]
        assert mean is not None and chance is not None
        assert (mean > chance[1]) == beyond and chance[0] < 0 < chance[1]


def test_the_control_s_rho_is_spearman_s():
    norms, control = torch.rand(12, generator=DRAW), torch.rand(12, 30, generator=DRAW).round(decimals=1)
    found = alignment(control[:, 0], control, norms, {"all": range(12)})
    rhos = [stats.spearmanr(norms, column).statistic for column in control.T]
    assert found.control_rho == pytest.approx(tuple(np.quantile(rhos, [0.025, 0.975])))


def test_without_spread_there_is_no_rho():
    cosines = torch.tensor([0.1, 0.2, 0.3, 0.4])
    found = alignment(cosines, cosines[:, None], torch.ones(4), {"all": range(4)})
    assert found.control_rho is None and found.norm_cosine.rho is None
