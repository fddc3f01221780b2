"""Whether a training diverged, which the Trainer does not say: it leaves such losses out of its logs and goes on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from moored.errors import DivergedError
from moored.huggingface.models import plain_name


class Divergence:
    """Remembers the step since which the loss has not been a finite number."""

    def __init__(self) -> None:
        self._since: int | None = None

    def watch(self, loss: Tensor, step: int) -> None:
        """Takes note of the loss of a micro-batch in an optimizer step."""
        if loss.isfinite().all():
            self._since = None
        elif self._since is None:
            self._since = step

    def refuse(self, model: nn.Module, step: int, total: Callable[[Tensor], Tensor]) -> None:
        """Raises DivergedError where, in any process, the last loss or a trained weight is not finite.

        The weights are looked at, too: a loss that is not finite may have been the only sign, and be gone.

        Args:
            model: the model that is trained.
            step: how many optimizer steps it has taken.
            total: sums a tensor over the processes.
        """
        weight = _first_broken(model)
        here = torch.tensor(float(self._since is not None or weight is not None))
        if not total(here.to(next(model.parameters()).device)):
            return
        if self._since is not None:
            what = f"the loss has not been a finite number since step {self._since}"
        else:
            what = f"after step {step} {weight or 'a weight of another process'} holds NaN or infinity"
        raise DivergedError(
            f"The training diverged: {what}; try a lower learning_rate, a longer warm-up or weaker penalties."
        )


def _first_broken(model: nn.Module) -> str | None:
    trained = ((name, each.detach()) for name, each in model.named_parameters() if each.requires_grad)
    own = ((name, each.to_local() if isinstance(each, DTensor) else each) for name, each in trained)
    return next((plain_name(name) for name, each in own if not each.isfinite().all()), None)
