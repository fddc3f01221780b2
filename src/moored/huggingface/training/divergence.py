"""A mixin that makes a diverged training an error; the Trainer leaves such losses out of its logs and carries on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from moored.errors import DivergedError
from moored.huggingface.distributed.sharding import local_part
from moored.huggingface.distributed.sums import sum_over_processes
from moored.huggingface.models import plain_name

if TYPE_CHECKING:
    from transformers import Trainer as _Trainer
else:
    _Trainer = object


class Divergence:
    """The step since which the loss has not been finite."""

    def __init__(self) -> None:
        self._since: int | None = None

    def watch(self, loss: Tensor, step: int) -> None:
        """Looks at the loss of a micro-batch in an optimizer step."""
        if loss.isfinite().all():
            self._since = None
        elif self._since is None:
            self._since = step

    def refuse(self, model: nn.Module, step: int, total: Callable[[Tensor], Tensor] = sum_over_processes) -> None:
        """Raises DivergedError where, in any process, the last loss or a trained weight is not finite.

        The weights are checked as well: the very last step may have broken them, after the last loss.

        Args:
            model: the model that is trained.
            step: the number of optimizer steps that it has taken.
            total: sums a tensor over the processes.
        """
        weight = _first_broken(model)
        here = torch.tensor(float(self._since is not None or weight is not None))
        if not total(here.to(next(model.parameters()).device)):
            return
        if self._since is not None:
            problem = f"the loss has not been a finite number since step {self._since}"
        else:
            problem = f"after step {step} {weight or 'a weight of another process'} holds NaN or infinity"
        raise DivergedError(
            f"The training diverged: {problem}; try a lower learning_rate, a longer warm-up or weaker penalties."
        )


def _first_broken(model: nn.Module) -> str | None:
    trained = ((name, local_part(each.detach())) for name, each in model.named_parameters() if each.requires_grad)
    return next((plain_name(name) for name, weight in trained if not weight.isfinite().all()), None)


class DivergenceMixin(_Trainer):
    """Raises DivergedError before a checkpoint is written and at the end of the training, if that is switched on."""

    refuse_divergence = False
    """Whether a training that diverged is an error."""
    _divergence: Divergence

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains, and checks the result."""
        self._divergence = Divergence()
        output = super().train(*args, **kwargs)
        self._require_finite()
        return output

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Runs the Trainer's step on a micro-batch and looks at its loss."""
        loss = super().training_step(*args, **kwargs)
        self._divergence.watch(loss, self.state.global_step + 1)
        return loss

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self._require_finite()
        super()._save_checkpoint(*args, **kwargs)

    def _require_finite(self) -> None:
        if self.refuse_divergence:
            assert self.model is not None
            self._divergence.refuse(self.model, self.state.global_step)
