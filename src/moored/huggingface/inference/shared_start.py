"""What all prompts begin with is encoded once: before short questions a template's system prompt is the larger part."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from moored.huggingface.inference.batches import Ids
from moored.huggingface.models import without_adapter

WORTHWHILE, SHARE, LONGEST = 8, 0.25, 2048
"""So many tokens at least, and that share of what is encoded: the state of long texts would take more room than the
start takes time. In longer ones some models turn positions otherwise than in short ones."""
_LOOK_BACK_BY_PLACES = ("gpt_neo",)
"""Models in which some layers look back by so many places, though their state does not show it."""


@dataclass(frozen=True)
class SharedStart:
    """The tokens that some sequences begin with, and a model's state after them."""

    length: int = 0
    """How many; 0 where nothing is shared."""
    state: Cache | None = None

    def repeated(self, model: torch.nn.Module, times: int) -> dict[str, Cache]:
        """The state for so many sequences, as an argument of the model; none where nothing is shared."""
        return {} if self.state is None else repeated(model, self.state, times)


NOTHING = SharedStart()


def encode_shared_start(model: torch.nn.Module, sequences: Sequence[Ids], *, gaps: bool = False) -> SharedStart:
    """Encodes what sequences have in common, at most all but the last token of the shortest.

    Nothing is shared where that is not worthwhile, with gradients or in train mode, where a dropout would be the same
    for all, or where the model's state is no plain list of keys and values.

    Args:
        model: a causal language model.
        sequences: of tokens.
        gaps: whether padding will stand between the start and what follows. A model that counts places rather than
            positions would count it, and nothing is shared then.
    """
    length = _common(sequences)
    if not _is_worthwhile(length, sequences) or torch.is_grad_enabled() or model.training:
        return NOTHING
    if gaps and not knows_positions(model):
        return NOTHING
    ids = torch.tensor([sequences[0][:length]], device=next(model.parameters()).device)
    state = plain_state(model(input_ids=ids, use_cache=True, logits_to_keep=last_position(ids)), windows=not gaps)
    # Soft prompts of an adapter would stand in the state, too.
    return NOTHING if state is None or state.get_seq_length() != length else SharedStart(length, state)


def _is_worthwhile(length: int, sequences: Sequence[Ids]) -> bool:
    lengths = [len(each) for each in sequences]
    return length >= WORTHWHILE and length >= SHARE * sum(lengths) / len(lengths) and max(lengths) <= LONGEST


def knows_positions(model: Any) -> bool:
    """Whether a model goes by the positions that it is told, as hardly any with ALiBi does."""
    return "position_ids" in _arguments(model) and model.config.model_type not in _LOOK_BACK_BY_PLACES


def _arguments(model: Any) -> Mapping[str, Any]:
    """What the forward pass of a model takes, with or without an adapter over it."""
    return signature(without_adapter(model).forward).parameters


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
    state = state_of(output)
    kinds = (DynamicLayer, DynamicSlidingWindowLayer) if windows else (DynamicLayer,)
    # Of that very type: others keep more beside their layers.
    return state if type(state) is DynamicCache and all(type(layer) in kinds for layer in state.layers) else None


def state_of(output: Any) -> Any:
    """Reads the state in a model's output: transformers 5.24 renamed `past_key_values`, and warns of the old name."""
    return getattr(output, "cache" if hasattr(output, "cache") else "past_key_values", None)


def as_argument(model: torch.nn.Module, state: Cache) -> dict[str, Cache]:
    """Returns a state under the name that the model's forward pass has for it."""
    return {"cache" if "cache" in _arguments(model) else "past_key_values": state}


def repeated(model: torch.nn.Module, state: Cache, times: int) -> dict[str, Cache]:
    """Copies a state with each sequence so many times, under the name that the model's forward pass has for it."""
    copy = deepcopy(state)
    copy.batch_repeat_interleave(times)
    return as_argument(model, copy)


def last_position(ids: torch.Tensor) -> torch.Tensor:
    """As `logits_to_keep`. A slice of one position would make the output head copy its whole weight."""
    return torch.tensor([ids.shape[1] - 1], device=ids.device)
