"""The rival of the direction penalty computes the very same."""

import torch

from benchmarks.speed import regularizer_rivals as rivals
from moored import AlignmentDirection
from moored.tensors.low_rank import LowRank


def test_the_whole_matrices_give_the_penalty_and_the_gradient_of_the_factors():
    torch.manual_seed(0)
    d, b, a = torch.randn(6, 4), torch.randn(6, 2, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    penalty = AlignmentDirection(base="made up", precision="float32")
    ours = penalty.weight_penalty(LowRank(b, a), penalty.guide(d, "weight"))
    theirs = rivals.off_direction(rivals.complement(d), b, a)
    torch.testing.assert_close(theirs, ours)
    torch.testing.assert_close(torch.autograd.grad(theirs, [a, b]), torch.autograd.grad(ours, [a, b]))
