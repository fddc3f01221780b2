"""What all prompts begin with is encoded once: before short questions a template's system prompt is the larger part."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from moored.huggingface.inference.batches import Ids

WORTHWHILE = 8
"""Tokens; fewer are encoded again each time."""


@dataclass(frozen=True)
class SharedStart:
    """The tokens that some sequences begin with, and a model's state after them."""

    length: int = 0
    """How many; 0 where nothing is shared."""
    state: Cache | None = None

    def repeated(self, times: int) -> dict[str, Cache]:
        """The state for so many sequences, as an argument of the model; none where nothing is shared."""
        return {} if self.state is None else {"past_key_values": repeated(self.state, times)}


NOTHING = SharedStart()


def shared_start(model: torch.nn.Module, sequences: Sequence[Ids], *, gaps: bool = False) -> SharedStart:
    """Encodes what sequences have in common, at most all but the last token of the shortest. Gradients must be off.

    Args:
        model: a causal language model in eval mode.
        sequences: of tokens.
        gaps: whether padding will stand between the start and what follows. Attention that looks back by so many
            places would count it, and nothing is shared then.
    """
    length = _common(sequences)
    if length < WORTHWHILE:
        return NOTHING
    ids = torch.tensor([sequences[0][:length]], device=next(model.parameters()).device)
    state = plain_state(model(input_ids=ids, use_cache=True, logits_to_keep=last_position(ids)), windows=not gaps)
    return NOTHING if state is None else SharedStart(length, state)


def _common(sequences: Sequence[Ids]) -> int:
    if len(sequences) < 2:
        return 0
    shortest = min(map(len, sequences))
    differs = (place for place, tokens in enumerate(zip(*sequences, strict=False)) if len(set(tokens)) > 1)
    return min(next(differs, shortest), shortest - 1)


def plain_state(output: Any, *, windows: bool = True) -> Cache | None:
    """The state in a model's output if it is plain keys and values, which can be repeated for several sequences.

    Args:
        output: of a model that was called with `use_cache`.
        windows: whether layers that look back by so many places only will do.
    """
    state: Cache | None = getattr(output, "past_key_values", None)
    kinds = (DynamicLayer, DynamicSlidingWindowLayer) if windows else (DynamicLayer,)
    return state if state is not None and all(type(layer) in kinds for layer in state.layers) else None


def repeated(state: Cache, times: int) -> Cache:
    """A copy in which each sequence stands so many times."""
    copy = deepcopy(state)
    copy.batch_repeat_interleave(times)
    return copy


def last_position(ids: torch.Tensor) -> torch.Tensor:
    """As `logits_to_keep`. A slice of one position would make the output head copy its whole weight."""
    return torch.tensor([ids.shape[1] - 1], device=ids.device)
