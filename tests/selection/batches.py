"""Batches for the tests of selection rules, and the plain loss band that several of them compare with."""

import hypothesis.strategies as st
import torch


def batch(losses, norms, lengths=None):
    """Tensors as a scoring pass returns them; every answer has one token unless said otherwise."""
    return torch.tensor(losses), torch.tensor(norms), torch.tensor(lengths or [1] * len(losses))


def random_batch(samples, seed):
    """Scores without ties, skewed as real norms are, and lengths with ties; none is 0."""
    draw = torch.Generator().manual_seed(seed)
    losses, norms = torch.randn(2, samples, generator=draw).exp()
    return losses, norms, torch.randint(1, max(2, samples // 2), (samples,), generator=draw)


BATCHES = st.builds(random_batch, st.integers(1, 40), st.integers(0, 2**31))
KEEPS = st.sampled_from([0.01, 0.1, 0.2, 0.25, 0.29, 0.5, 0.9, 0.99])


def plain_band(losses, count):
    """Rows within one standard deviation of the mean, filled up from the nearest outside."""
    mean = sum(losses) / len(losses)
    deviation = (sum((loss - mean) ** 2 for loss in losses) / len(losses)) ** 0.5
    band = {row for row, loss in enumerate(losses) if mean - deviation <= loss <= mean + deviation}
    for row in sorted(range(len(losses)), key=lambda row: abs(losses[row] - mean)):
        if len(band) < count:
            band.add(row)
    return band


def plain_moderate(losses, norms, count):
    """Algorithm 1 over lists of floats."""
    band = sorted(plain_band(losses, count))
    ordered = sorted(norms[row] for row in band)
    median = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return sorted(sorted(band, key=lambda row: abs(norms[row] - median))[:count])
