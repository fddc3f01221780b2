import torch

from moored.selection import overlap


def test_the_overlap_is_a_share_of_the_first():
    one, other = torch.tensor([0, 2, 5, 7]), torch.tensor([2, 7, 8])
    assert overlap(one, other) == 2 / 4
    assert overlap(other, one) == 2 / 3
    assert overlap(one, one) == 1
    assert overlap(one, torch.tensor([], dtype=torch.int64)) == 0
