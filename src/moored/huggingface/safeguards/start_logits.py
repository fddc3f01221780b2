"""The logits of the weights that a run starts from, by the very model that is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from moored.huggingface.gradients.causal_model import known_head, split
from moored.huggingface.gradients.score import document_starts
from moored.huggingface.gradients.undisturbed import undisturbed
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions
from moored.huggingface.safeguards.rows import Batch, is_packed


class ReferenceLogits(Protocol):
    """The anchor's logits, from wherever they come."""

    def of(self, batch: Batch) -> Float[Tensor, "position token"]:
        """Those of the salient tokens at the batch's guarded positions, row by row, in fp32."""
        ...


class StartWeights:
    """Copies of a model's trainable parameters, taken when this is made."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._start = [(each, each.detach().clone()) for each in model.parameters() if each.requires_grad]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Puts the copies where the parameters are, and the parameters back, bit for bit; meanwhile as `at_rest`."""
        now = [parameter.data for parameter, _ in self._start]
        with at_rest(self._model):
            try:
                for parameter, start in self._start:
                    parameter.data = start.to(parameter.device)
                yield
            finally:
                for (parameter, _), data in zip(self._start, now, strict=True):
                    parameter.data = data


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation without gradients; modes, random state and buffers are put back."""
    device = next(model.parameters()).device
    modes = [(module, module.training) for module in model.modules()]
    # Autocast keeps what it made of the parameters, without a graph where there is none, and under other weights too.
    torch.clear_autocast_cache()
    with undisturbed(model, device), torch.no_grad():
        try:
            for module, _ in modes:
                module.training = False
            yield
        finally:
            for module, training in modes:
                module.training = training
            torch.clear_autocast_cache()


class AnchorLogits:
    """Reference logits by one more pass through the backbone, in the precision of the surrounding autocast.

    Args:
        model: the model that is trained.
        head: of the salient tokens.
        first: as in `guarded_positions`.
        start: the anchor's weights; None for those that the model has when it is asked.
    """

    def __init__(
        self, model: nn.Module, head: SalientHead, *, first: int | None = None, start: StartWeights | None = None
    ) -> None:
        self.head, self.first = head, first
        self._model, self._parts, self._start = model, split(model), start

    def of(self, batch: Batch) -> Float[Tensor, "position token"]:
        """See `ReferenceLogits`.

        Raises:
            ModelError: logits that are made in an unknown way, or packed documents that see one another.
        """
        device = self._parts.weight.device
        batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        guarded = guarded_positions(batch, self.first)
        if not guarded.any():
            return torch.zeros(0, self.head.size, device=device)
        packed = document_starts(batch) is not None
        # In a padded batch, what comes after the last token that is predicted changes nothing before it.
        needed = guarded.shape[1] if is_packed(batch) else int(guarded.any(0).nonzero()[-1]) + 2
        batch, guarded = _cut(batch, needed), guarded[:, :needed]
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        with at_rest(self._model) if self._start is None else self._start.in_place():
            known_head(self._parts, batch["input_ids"], packed=packed, after_forward=lambda: None)
            hidden = self._parts.backbone(**{**inputs, "use_cache": False}).last_hidden_state
            return self.head.logits(hidden[guarded])


def _cut(batch: Batch, width: int) -> Batch:
    shape = batch["input_ids"].shape
    return {key: value[:, :width] if getattr(value, "shape", None) == shape else value for key, value in batch.items()}
