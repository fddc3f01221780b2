import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from moored.tensors import output_head
from moored.tensors.output_head import Head, head_gradients

VOCABULARY, DIM = 11, 4


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _by_autograd(head: Head, hidden: Tensor, targets: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
    """One sample's loss and its gradients by hidden states, weight and bias, in double precision."""
    leaves = [each.double().requires_grad_() for each in (hidden, head.weight, head.bias) if each is not None]
    logits = head.scale * torch.nn.functional.linear(*leaves)
    if head.cap is not None:
        logits = head.cap * torch.tanh(logits / head.cap)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    by_hidden, by_weight, by_bias = torch.autograd.grad(loss, leaves)
    return loss.item(), by_hidden, by_weight, by_bias


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    scale=st.sampled_from([1.0, 0.3]),
    cap=st.sampled_from([None, 2.0]),
    most=st.sampled_from([1, 15, 40, 10**6]),
    trained=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_losses_and_gradients_are_those_of_autograd(
    lengths: list[int], scale: float, cap: float | None, most: int, trained: bool
):
    head = Head(_draw(VOCABULARY, DIM), _draw(VOCABULARY), scale, cap)
    hidden = _draw(sum(lengths), DIM, seed=1)
    targets = torch.randint(0, VOCABULARY, (sum(lengths),), generator=torch.Generator().manual_seed(2))
    wanted = [torch.tensor([3, 3, sample, 10]) for sample in range(len(lengths))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output_head, "_MOST", most)
        made = head_gradients(head, hidden, targets, lengths, trained=trained, rows=wanted if trained else None)
    parts = zip(hidden.split(lengths), targets.split(lengths), made.hidden.split(lengths), strict=True)
    for sample, (h, t, found) in enumerate(parts):
        if not len(h):
            assert made.losses[sample] == made.squares.weight[sample] == made.squares.bias[sample] == 0
            continue
        loss, by_hidden, by_weight, by_bias = _by_autograd(head, h, t)
        torch.testing.assert_close(found, by_hidden.float(), rtol=1e-4, atol=1e-6)
        assert made.losses[sample].item() == pytest.approx(loss, rel=1e-5, abs=1e-6)
        if trained:
            assert made.squares.weight[sample].item() == pytest.approx(by_weight.square().sum().item(), rel=1e-4)
            assert made.squares.bias[sample].item() == pytest.approx(by_bias.square().sum().item(), rel=1e-4)
            torch.testing.assert_close(
                made.squares.rows[sample], by_weight[wanted[sample]].float(), rtol=1e-4, atol=1e-6
            )


def test_no_more_logits_than_allowed_exist_at_once(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    plain = Head.logits

    def logits(self: Head, hidden: Tensor, chunk: slice) -> Tensor:
        seen.append(len(hidden) * (chunk.stop - chunk.start))
        return plain(self, hidden, chunk)

    monkeypatch.setattr(Head, "logits", logits)
    monkeypatch.setattr(output_head, "_MOST", 30)
    head, lengths = Head(_draw(VOCABULARY, DIM)), [1, 2, 7, 0, 1]
    for trained in (True, False):
        head_gradients(head, _draw(11, DIM), torch.arange(11), lengths, trained=trained)
    assert max(seen) <= 30


def test_a_head_in_bf16_gives_fp32():
    head = Head(_draw(VOCABULARY, DIM).bfloat16(), dtype=torch.bfloat16)
    made = head_gradients(head, _draw(5, DIM).bfloat16(), torch.arange(5), [2, 3])
    assert {made.losses.dtype, made.hidden.dtype, made.squares.weight.dtype} == {torch.float32}
    exact = head_gradients(Head(head.weight.float()), _draw(5, DIM).bfloat16().float(), torch.arange(5), [2, 3])
    torch.testing.assert_close(made.losses, exact.losses, rtol=0.02, atol=0)
    torch.testing.assert_close(made.squares.weight, exact.squares.weight, rtol=0.05, atol=0)
