"""The penalties as papers' code has them: whole matrices and whole vocabularies, in the loss of every micro-step.

Both are right where they run, on a fresh LoRA and with rows of equal length; what they lack is thrift.
"""

from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn import functional as F
from trl.trainer.sft_trainer import SFTTrainer

from moored.huggingface.models import StoredWeights, plain_name


def complement(difference: Float[Tensor, "out in"]) -> Float[Tensor, "out out"]:
    """I − d dᵀ/‖d‖, whole. AsFT's code makes the identity anew for each use; that much is spared here."""
    return torch.eye(len(difference)) - difference @ difference.T / difference.norm()


def off_direction(
    off: Float[Tensor, "out out"], b: Float[Tensor, "out rank"], a: Float[Tensor, "rank in"]
) -> Float[Tensor, ""]:
    """‖(I − Ĉ) BA‖², through the whole update."""
    return (off @ (b @ a)).square().sum()


class Rival(SFTTrainer):
    """Keeps what its penalty was in each micro-step since `begin`."""

    def begin(self) -> None:
        """Forgets the last step's."""
        self._found: list[Tensor] = []

    def values(self) -> list[float]:
        """The mean over the micro-steps: the penalty of the step."""
        return [torch.stack(self._found).mean().item()]

    def _added(self, loss: Tensor, penalty: Tensor, strength: float) -> Tensor:
        """AsFT's code adds the whole of it in each micro-step, and so counts it once too often for each more."""
        self._found.append(penalty.detach())
        return loss + strength * penalty / self.current_gradient_accumulation_steps


class DenseDirection(Rival):
    """AsFT (arXiv 2506.08473) as its code has it, with Ĉ made once; the base's weights are read by name."""

    def __init__(self, *args: Any, base: str, strength: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        stored, self._strength = StoredWeights(base), strength
        assert self.model is not None
        named = [(plain_name(name), module) for name, module in self.model.named_modules()]
        lora: list[tuple[str, Any]] = [(name, module) for name, module in named if isinstance(module, LoraLayer)]
        self._off = [
            (complement(module.get_base_layer().weight - stored.read(f"{name}.weight")), module)
            for name, module in lora
        ]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The loss and the penalty."""
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        penalties = [
            off_direction(off, module.lora_B["default"].weight, module.lora_A["default"].weight)
            for off, module in self._off
        ]
        return self._added(loss, torch.stack(penalties).sum(), self._strength)


class FullLogitsTokens(Rival):
    """Safety-token regularization through the logits of all tokens, the reference with the adapter off."""

    def __init__(self, *args: Any, tokens: list[int], strength: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._salient, self._strength = tokens, strength

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss and the penalty, from one forward pass of each model."""
        labels = inputs["labels"][:, 1:]
        rest = {key: value for key, value in inputs.items() if key != "labels"} | {"use_cache": False}
        logits = model(**rest).logits[:, :-1]
        with torch.no_grad(), model.disable_adapter():
            reference = model(**rest).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / num_items_in_batch
        difference = (logits - reference)[labels != -100][:, self._salient]
        return self._added(loss, difference.square().mean(), self._strength)
