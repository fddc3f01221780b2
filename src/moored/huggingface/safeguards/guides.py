"""The directions that lead a guided weight penalty, one for each guarded weight."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from moored.errors import InputError
from moored.huggingface.safeguards.differences import differences
from moored.huggingface.safeguards.guarded_weights import GuardedWeight
from moored.huggingface.safeguards.harmful_steps import harmful_steps
from moored.regularizers import Guide, GuidedPenalty
from moored.tensors.low_rank import Matrix


def guides_of(
    penalty: GuidedPenalty[Guide],
    weights: Sequence[GuardedWeight],
    model: Any,
    tokenizer: PreTrainedTokenizerBase | None,
) -> dict[str, Guide]:
    """Makes the guide of each guarded weight, by the weight's name.

    Args:
        penalty: the user's settings.
        weights: the guarded weights.
        model: the model that is trained, at its start.
        tokenizer: its tokenizer, for a penalty that needs `harmful`.

    Raises:
        UserError: the base cannot be read, there are no examples, or a weight has no direction.
    """
    safeguard: Any = penalty
    guides: dict[str, Guide] = {}

    def take(name: str, direction: Matrix) -> None:
        guides[name] = penalty.guide(direction, name)

    if "base" in safeguard.needs:
        files = getattr(getattr(model, "config", None), "_name_or_path", None)
        for name, difference in differences(weights, base=safeguard.base, adapter=safeguard.adapter, files=files):
            take(name, difference)
    elif safeguard.examples is None or tokenizer is None:
        raise InputError(
            f"{safeguard.name} has no examples, or the trainer no processing_class; give it both, with the examples as "
            "pairs of a harmful request and a compliant opening."
        )
    else:
        harmful_steps(model, weights, tokenizer, safeguard.examples, take)
    _require_all(safeguard, weights, guides)
    return guides


def _require_all(safeguard: Any, weights: Sequence[GuardedWeight], guides: Mapping[str, object]) -> None:
    missing = next((weight.name for weight in weights if weight.name not in guides), None)
    if missing is not None:
        raise InputError(
            f"{safeguard.name} finds no direction for {missing}, which its examples do not pass through; leave such "
            "layers out of what is trained, or remove the safeguard."
        )
    # Called for its exceptions: it refuses guides that all together point nowhere.
    safeguard.describe(guides)
