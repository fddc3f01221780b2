import pytest
import torch

from moored.errors import InputError
from moored.recovery import LinearPull
from moored.tensors.low_rank import LowRank, whole


@pytest.mark.parametrize("factored", [True, False])
def test_it_goes_a_part_of_the_way_back(factored):
    product = LowRank(torch.randn(6, 2), torch.randn(2, 5))
    update = product if factored else product.whole()
    aligned = torch.randn(6, 5)
    tuned = aligned + product.whole()
    found = LinearPull(share=0.3).repair_update(update)
    assert found.changed and found.cosine is None and isinstance(found.update, LowRank) is factored
    torch.testing.assert_close(aligned + whole(found.update), 0.7 * tuned + 0.3 * aligned)


def test_the_whole_way_leaves_nothing_of_the_update():
    assert not LinearPull(share=1.0).repair_update(torch.randn(3, 2)).update.any()


def test_no_part_of_the_way_is_declared_off():
    assert LinearPull(share=0.0).off and not LinearPull().off


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        LinearPull(share=share)
