import pytest
import torch

from moored.regularizers import UpdateNorm
from moored.tensors.low_rank import LowRank


def test_it_is_the_squared_norm_of_the_whole_update():
    torch.manual_seed(0)
    b, a = torch.randn(5, 2), torch.randn(2, 4)
    penalty = UpdateNorm(strength=1.0)
    assert float(penalty.weight_penalty(b @ a)) == pytest.approx(float((b @ a).norm()) ** 2)
    assert float(penalty.weight_penalty(LowRank(b, a))) == pytest.approx(float((b @ a).norm()) ** 2, rel=1e-5)
