"""The directions along which `moored inspect basin` moves the weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

from torch import nn

from moored.huggingface.gradients.matrix_gradients import stored_gradients
from moored.huggingface.models import FoldedWeights, ModelSource, difference
from moored.huggingface.models.moved_weights import Direction, of_equal_norm, random_direction
from moored.tensors.low_rank import Matrix, shuffled_rows
from moored.workflows.inputs.models import base_folder
from moored.workflows.inspect.example_gradients import Example, complied_with, mean_loss, ordinary

_EXAMPLES = 16
"""The number of answers whose mean gradient is a direction."""
STEPS: Mapping[str, Callable[[int], list[Example]]] = {"harmful": complied_with, "ordinary": ordinary}
"""The examples of each direction that is a training step; `ordinary` is the control of `harmful`."""


def alignment_directions(
    aligned: ModelSource, base: str, weights: Mapping[str, nn.Parameter], seed: int
) -> dict[str, Direction]:
    """Makes the direction aligned − base and its control, both as long as the weights."""
    changes = alignment_changes(aligned, base, weights, seed)
    return {name: of_equal_norm(change, weights) for name, change in changes.items()}


def alignment_changes(
    aligned: ModelSource, base: str, weights: Mapping[str, nn.Parameter], seed: int
) -> dict[str, Mapping[str, Matrix]]:
    """Computes aligned − base, weight by weight, and its control: the same with the rows of each weight shuffled."""
    after, before = FoldedWeights(aligned), FoldedWeights(ModelSource(str(base_folder(base))))
    change = {name: difference(after, before, name) for name in weights}
    shuffled = {name: shuffled_rows(matrix, seed + crc32(name.encode())) for name, matrix in change.items()}
    return {"alignment": change, "shuffled": shuffled}


def step_directions(model: Any, tokenizer: Any, weights: Mapping[str, nn.Parameter]) -> dict[str, Direction]:
    """Makes the training steps of compliant answers and of ordinary ones, as long as the weights."""
    return {name: of_equal_norm(step(model, tokenizer, of(_EXAMPLES)), weights) for name, of in STEPS.items()}


def step(model: Any, tokenizer: Any, examples: Sequence[Example]) -> dict[str, Matrix]:
    """Computes the step that training on examples would take: minus their mean gradient."""
    losses = mean_loss(model, tokenizer, examples)
    return stored_gradients(model, lambda: (-loss for loss in losses()))


def random_directions(weights: Mapping[str, nn.Parameter], count: int, seed: int) -> dict[str, Direction]:
    """Draws random directions; the seeds are hashed so that neighbouring ones share no direction."""
    seeds = {f"random {number}": crc32(f"{seed}/{number}".encode()) for number in range(count)}
    return {name: random_direction(weights, hashed) for name, hashed in seeds.items()}
