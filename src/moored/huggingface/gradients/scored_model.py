"""A model as scoring a data set needs it: loaded, with the parameters trainable whose gradients are asked for."""

from typing import Any, Literal

import torch
from peft import get_peft_model

from moored.huggingface.models import ModelSource, best_device, load_model
from moored.huggingface.models.lora_config import lora_config

Parameters = Literal["all", "lora"]


def scored_model(source: ModelSource, parameters: Parameters, *, own_factors: bool = False, seed: int = 0) -> Any:
    """The model in fp32 on the best device, in training mode.

    Args:
        source: the checkpoint and its adapter.
        parameters: `all` parameters of the model with its adapter folded in, or `lora` factors alone.
        own_factors: with `lora`, those of the source's adapter; else those of a new LoRA over the folded weights, as
            `moored train` starts with (rank 16 on all linear layers), whose B is zero and lets no gradient to A.
        seed: of the new LoRA's A.

    Raises:
        ModelError: the checkpoint or the adapter cannot be used.
    """
    if parameters == "lora" and own_factors:
        model: Any = load_model(source, trainable=True)
    else:
        model = load_model(source, trainable=True, merge=True)
        if parameters == "lora":
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                model = get_peft_model(model, lora_config({}))
    return model.train().to(best_device())
