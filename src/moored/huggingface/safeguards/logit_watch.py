"""The watch over a token penalty that might do nothing: do the logits that it guards move as the weights do?"""

import torch
from torch import Tensor, nn

from moored.errors import InactiveError
from moored.huggingface.safeguards.cached_logits import relative_rounding
from moored.huggingface.safeguards.guarded_logits import SalientHead


class LogitWatch:
    """Notices whether guarded logits ever leave the reference's, against the weights of the moment it is made.

    Args:
        name: the safeguard's.
        model: the model that is trained.
        head: the output head of the guarded tokens.
        is_cached: whether the reference was computed in other batches, which alone changes the last digits.
    """

    def __init__(self, name: str, model: nn.Module, head: SalientHead, *, is_cached: bool) -> None:
        self._name, self._model, self._head, self._is_cached = name, model, head, is_cached
        self._start = _squared_norm(model)
        self.acted = False
        """Whether the penalty was ever more than rounding."""

    @torch.no_grad()
    def see(self, logits: Tensor, reference: Tensor, penalty: Tensor) -> None:
        """Notes whether the penalty acts on these logits; raises InactiveError if they stay while the weights move."""
        if self.acted or not logits.numel():
            return
        distance = (logits - reference).norm()
        if distance:
            rounding = relative_rounding(self._head.dtype) if self._is_cached else 0.0
            self.acted = bool(penalty > 0 and distance > rounding * reference.norm())
        elif self._weights_moved():
            raise InactiveError(
                f"The logits that {self._name} guards are exactly those of the start although the weights "
                "have moved; it protects nothing here."
            )

    def _weights_moved(self) -> bool:
        """Tells whether the weights are further from the start than the logits' precision could hide.

        In bf16, or early in a warm-up, many steps may pass before a logit changes.
        """
        moved = abs(_squared_norm(self._model) - self._start)
        return moved > torch.finfo(self._head.dtype).eps * max(self._start, 1.0)


@torch.no_grad()
def _squared_norm(model: nn.Module) -> float:
    """Computes ‖θ‖² of the trained weights, which changes when they do."""
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    return sum(parameter.double().square().sum().item() for parameter in trained)
