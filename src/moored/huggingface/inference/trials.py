"""What a model can be trusted with: shortcuts are tried, once per model, against the plainest forward passes.

Some families read the padding before a prompt as if it were text, count positions in their own way, or continue a state
otherwise than they would read the whole. Any of that shows on a few tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moored.huggingface.gradients.causal_model import require_next_tokens
from moored.huggingface.inference.batches import Ids
from moored.huggingface.inference.shared_start import knows_positions, plain_state, repeated

Outcome = TypeVar("Outcome")
_FEW, _GAP, _STATE = 6, 3, 16
"""The number of tokens on which a model is tried, of paddings before them, and of tokens in a state before them."""
_outcomes: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()


def tried(model: nn.Module, what: str, trial: Callable[[], Outcome]) -> Outcome:
    """Returns the outcome of a trial that a model is put to only once."""
    outcomes = _outcomes.setdefault(model, {})
    if what not in outcomes:
        outcomes[what] = trial()
    return outcomes[what]


def agree(model: nn.Module, one: Tensor, other: Tensor) -> bool:
    """Whether two results for the same tokens differ by no more than rounding in a model's precision."""
    return _close(one, other, 0.05 if _precision(model) > 1e-4 else 1e-4)


def _precision(model: nn.Module) -> float:
    return torch.finfo(next(model.parameters()).dtype).eps


def _close(one: Tensor, other: Tensor, share: float) -> bool:
    """Whether two results differ by no more than a share of the largest. Tokens that both rule out, by -inf, agree."""
    ruled_out = one.isneginf() & other.isneginf()
    one, other = one.masked_fill(ruled_out, 0), other.masked_fill(ruled_out, 0)
    scale = float(other.abs().max())
    return scale < float("inf") and torch.allclose(one, other, rtol=0, atol=share * scale)


def require_causal_answers(model: nn.Module, prompts: Sequence[Ids]) -> None:
    """Raises ModelError for a model whose logits depend on later tokens: it does not answer token by token."""
    if prompts and prompts[0]:
        require_next_tokens(model, torch.tensor([prompts[0]], device=next(model.parameters()).device))


@torch.no_grad()
def passes_over_padding(model: nn.Module, prompt: Ids) -> bool:
    """Whether the beginning of a prompt gets the same logits alone and after padding.

    Two kinds of padding are compared too, since what they do to the logits may be less than rounding.
    """

    def trial() -> bool:
        few = prompt[:_FEW]
        # Any two tokens will do that are not the same.
        one, other = (_padded_logits(model, few, filler) for filler in (few[0], few[-1] if few[-1] != few[0] else 0))
        return _close(one, other, max(1e-6, _precision(model))) and agree(model, one, plain_logits(model, [few])[0])

    return tried(model, "padding", trial)


@torch.no_grad()
def continues_states(model: nn.Module, prompt: Ids) -> bool:
    """Whether a model gives the same logits after its state of the tokens before as when it reads the whole."""

    def trial() -> bool:
        tokens = (prompt * _STATE)[: _STATE + _FEW]
        ids = torch.tensor([tokens], device=next(model.parameters()).device)
        before, rest = ids[:, :_STATE], ids[:, _STATE:].repeat(2, 1)
        whole: Any = model
        state = plain_state(whole(input_ids=before, use_cache=True))
        if state is None:
            return True
        found = whole(input_ids=rest, use_cache=True, **repeated(model, state, 2)).logits.float()
        return agree(model, found, plain_logits(model, [tokens])[:, _STATE:].expand_as(found))

    return tried(model, "states", trial)


def _padded_logits(model: Any, tokens: Ids, filler: int) -> Float[Tensor, "token vocab"]:
    device = next(model.parameters()).device
    ids = torch.tensor([[filler] * _GAP + tokens], device=device)
    mask = torch.tensor([[0] * _GAP + [1] * len(tokens)], device=device)
    positions = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if knows_positions(model) else {}
    return model(input_ids=ids, attention_mask=mask, **positions, use_cache=False).logits[0, _GAP:].float()


def plain_logits(model: Any, rows: list[Ids]) -> Float[Tensor, "row token vocab"]:
    """The logits of rows of one length, read whole."""
    ids = torch.tensor(rows, device=next(model.parameters()).device)
    return model(input_ids=ids, use_cache=False).logits.float()
