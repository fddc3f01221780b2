"""What a token penalty logs: its value, and the gradients at the last hidden state, where it enters the model."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from moored.huggingface.distributed.processes import process_count
from moored.huggingface.distributed.sums import sum_over_processes
from moored.huggingface.safeguards.hidden_states import HiddenStates


class StepSums:
    """Sums over the micro-batches of each step since the last log.

    Args:
        scale: returns the factor that gradients carry at that moment, as under a GradScaler.
    """

    def __init__(self, scale: Callable[[], float]) -> None:
        self._scale = scale
        self._present: Tensor | None = None
        """The running sums of the present step, also the last entry of `_recent`."""
        self._recent: list[Tensor] = []
        """For each step: this process's part of the value, and the squared norms at the hidden states of the penalty's
        gradient and of the loss's."""

    def begin_step(self) -> None:
        """Lets the next micro-batch begin the sums of another step."""
        self._present = None

    def add(self, value: Tensor, weighted: Tensor, hidden: Tensor, positions: Tensor, states: HiddenStates) -> None:
        """Adds a micro-batch: the value now, the loss's gradient in the backward pass.

        Args:
            value: this process's part of the penalty.
            weighted: what is added to the loss.
            hidden: the hidden states at the guarded positions.
            positions: where those are in the batch.
            states: the hidden states of the forward pass.
        """
        if self._present is None:
            self._present = torch.zeros(3, device=value.device)
            self._recent.append(self._present)
        sums = self._present
        sums[0] += value.detach()
        if hidden.numel():
            (own,) = torch.autograd.grad(weighted, hidden, retain_graph=True)
            sums[1] += own.float().square().sum()
            # What flows back there is the gradient of the loss, and of the penalty if that came from the same states,
            # times the scale of fp16.
            part = torch.zeros_like(own) if states.noisy else own
            states.on_gradient(lambda whole: sums[2].add_(_squared_rest(whole / self._scale(), positions, part)))

    def drain(self) -> dict[str, float]:
        """Returns the means over the steps, and forgets these; empty where there was none."""
        if not self._recent:
            return {}
        sums = sum_over_processes(torch.stack(self._recent)).double()
        self._recent.clear()
        own, task = (sums[:, column].sqrt() / process_count() for column in (1, 2))
        return {
            "value": sums[:, 0].mean().item(),
            "gradient_norm": own.mean().item(),
            "gradient_ratio": (own / task.clamp_min(1e-30)).mean().item(),
        }


def _squared_rest(whole: Tensor, positions: Tensor, own: Tensor) -> Float[Tensor, ""]:
    """Computes the squared norm of a gradient at all positions, minus the penalty's own part at the guarded ones."""
    rest = whole.float()
    rest[positions.to(rest.device)] -= own.float()
    return rest.square().sum()
