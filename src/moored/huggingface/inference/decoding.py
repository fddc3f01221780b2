"""Greedy decoding in which finished answers leave the batch and waiting prompts take their places.

A step takes hardly longer for many rows than for few, and one row that goes on would hold up all the others of its
batch. All rows end in the last column of the cache; what a row does not fill on the left is masked.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer

from moored.huggingface.inference.batches import Ids
from moored.huggingface.inference.shared_start import (
    SharedStart,
    as_argument,
    knows_positions,
    last_position,
    plain_state,
    state_of,
)

TOGETHER = 32
"""Prompts that are encoded at once, at most."""
ROOM = 16
"""The number of tokens that the state has room for beyond its own when it is copied."""
TOLERATED = 0.125
"""The share of a batch that may be answers which are over."""


def can_decode(model: Any, token: int) -> bool:
    """Whether a model goes by the positions it is given and keeps a state of plain keys and values, nothing before it.

    Args:
        model: a causal language model.
        token: any that it knows.
    """
    if not knows_positions(model):
        return False
    output = model(input_ids=torch.tensor([[token]], device=_device(model)), use_cache=True)
    state: Any = plain_state(output, windows=False)
    # Layers that share the keys of another hold none of their own.
    return state is not None and state.get_seq_length() == 1 and all(layer.is_initialized for layer in state.layers)


def decode(
    model: Any,
    prompts: Mapping[int, Ids],
    shared: SharedStart,
    *,
    places: int,
    filler: int,
    is_over: Callable[[int, Ids], bool],
    check: Callable[[Tensor], None],
) -> Iterator[tuple[int, Ids]]:
    """Yields the number and the tokens of each answer as soon as it is over.

    Args:
        model: a causal language model that `can_decode`.
        prompts: tokens by number, in the order in which they get a place.
        shared: what all of them begin with.
        places: answers in progress at a time, at most; ≥ 1.
        filler: the token that stands where there is none.
        is_over: whether an answer, by number and tokens, ends with its last token.
        check: called with the largest logit of each row before its token is taken; NaN where one of them is NaN.
    """
    waiting, rows, over = list(prompts), None, set[int]()
    while waiting or rows:
        # A few new rows are hardly cheaper to read than many.
        while waiting and (free := places - (0 if rows is None else len(rows.numbers))) >= max(1, places // 4):
            group = waiting[: min(free, TOGETHER)]
            del waiting[: len(group)]
            new = _encode(model, {number: prompts[number] for number in group}, shared, filler, check)
            rows = new if rows is None else rows.joined(new)
        assert rows is not None
        for number, answer in zip(rows.numbers, rows.answers, strict=True):
            if number not in over and is_over(number, answer):
                over.add(number)
                yield number, list(answer)
        left = [place for place, number in enumerate(rows.numbers) if number not in over]
        # Dropping rows copies the state of the others, so that some wait for one another.
        if not left or len(left) < (1 - TOLERATED) * len(rows.numbers):
            rows = rows.kept(left)
        if rows is not None:
            rows.step(model, check)


class _Layer(DynamicLayer):
    """Keys and values with room for the next tokens: copying all for each token would take a fifth of a step."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.hold(keys, values)

    def hold(self, keys: Tensor, values: Tensor) -> None:
        """Replaces the keys and values."""
        self.keys, self.values = keys, values
        self._room = [keys, values]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Appends those of the next token."""
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = [pad(room[:, :, :start], (0, 0, 0, ROOM)) for room in self._room]
        for room, states in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:end] = states
        keys, values = (room[:, :, :end] for room in self._room)
        self.keys, self.values = keys, values
        return keys, values


@dataclass
class Rows:
    """The answers in progress, and the model's state after all of their tokens but the last."""

    numbers: list[int]
    answers: list[Ids]
    state: Any
    seen: Int[Tensor, "row place"]
    """The attention mask of the state."""
    positions: Int[Tensor, " row"]
    """That of the last token."""

    def kept(self, places: Sequence[int]) -> "Rows | None":
        """Returns some of the rows, without the columns that none of them fills; None where no row is left."""
        if len(places) == len(self.numbers):
            return self
        if not places:
            return None
        index = torch.tensor(places, device=self.seen.device)
        seen = self.seen[index]
        first = int(seen.any(0).int().argmax())
        for layer in self.state.layers:
            layer.hold(layer.keys[index, :, first:], layer.values[index, :, first:])
        numbers, answers = [self.numbers[place] for place in places], [self.answers[place] for place in places]
        return Rows(numbers, answers, self.state, seen[:, first:], self.positions[index])

    def joined(self, other: "Rows") -> "Rows":
        """Returns these rows and others in one batch."""
        missing = other.seen.shape[1] - self.seen.shape[1]
        here, there = max(missing, 0), max(-missing, 0)
        for ours, theirs in zip(self.state.layers, other.state.layers, strict=True):
            keys = torch.cat([_widened(ours.keys, here), _widened(theirs.keys, there)])
            ours.hold(keys, torch.cat([_widened(ours.values, here), _widened(theirs.values, there)]))
        seen = torch.cat([pad(self.seen, (here, 0)), pad(other.seen, (there, 0))])
        positions = torch.cat([self.positions, other.positions])
        return Rows(self.numbers + other.numbers, self.answers + other.answers, self.state, seen, positions)

    def step(self, model: Any, check: Callable[[Tensor], None]) -> None:
        """Appends the likeliest next token to every answer."""
        self.seen = pad(self.seen, (0, 1), value=1)
        last = torch.tensor([answer[-1] for answer in self.answers], device=self.seen.device)[:, None]
        output = model(
            input_ids=last,
            attention_mask=self.seen,
            position_ids=self.positions[:, None],
            **as_argument(model, self.state),
            use_cache=True,
        )
        self.positions = self.positions + 1
        for answer, token in zip(self.answers, _likeliest(output.logits, check), strict=True):
            answer.append(token)


def _encode(
    model: Any, prompts: Mapping[int, Ids], shared: SharedStart, filler: int, check: Callable[[Tensor], None]
) -> Rows:
    """Reads prompts and takes the first token of each answer.

    Padding stands after what is shared, and before what is not.
    """
    rests = [prompt[shared.length :] for prompt in prompts.values()]
    width = max(map(len, rests))
    gaps = [width - len(rest) for rest in rests]
    ids = torch.tensor([[filler] * gap + rest for gap, rest in zip(gaps, rests, strict=True)], device=_device(model))
    seen = torch.tensor([[1] * shared.length + [0] * gap + [1] * (width - gap) for gap in gaps], device=ids.device)
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    output = model(
        input_ids=ids,
        attention_mask=seen,
        position_ids=positions[:, shared.length :],
        use_cache=True,
        logits_to_keep=last_position(ids),
        **shared.repeated(model, len(rests)),
    )
    answers, state = [[token] for token in _likeliest(output.logits, check)], state_of(output)
    state.layers = [_Layer(layer.keys, layer.values) for layer in state.layers]
    return Rows(list(prompts), answers, state, seen, positions[:, -1] + 1)


def _likeliest(logits: Tensor, check: Callable[[Tensor], None]) -> list[int]:
    largest = logits[:, -1].max(-1)
    check(largest.values)
    return largest.indices.tolist()


def _widened(states: Tensor, columns: int) -> Tensor:
    return pad(states, (0, 0, columns, 0)) if columns else states


def _device(model: Any) -> torch.device:
    return next(model.parameters()).device
