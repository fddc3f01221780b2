"""Points around a model's weights: it is moved along directions, and comes back bit for bit."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from zlib import crc32

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moored.errors import InputError
from moored.huggingface.models import place_of, plain_name, refuse_stacked
from moored.tensors.low_rank import Matrix, left_times, squared_norm, whole

Direction = Callable[[str], Matrix | None]
"""What is added to a weight of a plain name at α = 1; None for nothing."""


def inner_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The matrices inside a model's layers by plain name: what directions move.

    Raises:
        ModelError: some of the layers' weights are no matrices.
    """
    named = {plain_name(name): each for name, each in model.named_parameters()}
    for name, each in named.items():
        refuse_stacked(name, each, "take a dense model")
    return {name: each for name, each in named.items() if each.ndim == 2 and place_of(name).layer is not None}


@contextmanager
def moved_weights(weights: Mapping[str, nn.Parameter]) -> Iterator[Callable[[Sequence[tuple[Direction, float]]], None]]:
    """Yields a function that puts the weights at start + Σ α · direction; they are back where they were at the end.

    The sums are in fp32. A copy of the weights is kept beside them.
    """
    start = {name: each.detach().clone() for name, each in weights.items()}

    @torch.no_grad()
    def move(offsets: Sequence[tuple[Direction, float]]) -> None:
        for name, weight in weights.items():
            steps = [(direction(name), alpha) for direction, alpha in offsets if alpha]
            moved = start[name].float()
            for step, alpha in steps:
                if step is not None:
                    moved = moved + alpha * whole(step).to(moved)
            weight.copy_(moved)

    try:
        yield move
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(start[name])


def of_equal_norm(direction: Mapping[str, Matrix], weights: Mapping[str, nn.Parameter]) -> Direction:
    """A direction scaled as a whole to the norm of all weights: α is then the relative distance moved.

    Raises:
        InputError: it moves none of the weights.
    """
    norm = sum(float(squared_norm(each)) for name, each in direction.items() if name in weights) ** 0.5
    if not norm:
        raise InputError("The direction moves none of the model's weights; name another model to lead to.")
    scale = sum(float(each.detach().float().square().sum()) for each in weights.values()) ** 0.5 / norm
    return lambda name: left_times(lambda columns: scale * columns, direction[name]) if name in direction else None


def random_direction(weights: Mapping[str, nn.Parameter], seed: int) -> Direction:
    """Gaussian, each matrix scaled to its weight's norm (Peng et al., arXiv 2405.17374); made anew at each call."""

    def draw(name: str) -> Float[Tensor, "out in"]:
        weight = weights[name].detach()
        generator = torch.Generator().manual_seed(seed * 1_000_003 + crc32(name.encode()))
        noise = torch.randn(weight.shape, generator=generator)
        return noise * (norms[name] / noise.norm())

    norms = {name: each.detach().float().norm().cpu() for name, each in weights.items()}
    return draw
