"""The loss of one chat example, as a function of a model's present weights."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from moored.huggingface.data import Supervision, supervise
from moored.huggingface.models import refuse_beyond


def example_loss(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str
) -> Callable[[], Tensor]:
    """Returns a function that computes the mean negative log-likelihood of the answer's tokens, in nats.

    The chat template renders the prompt without a system prompt; the answer's end-of-turn token counts.
    The model is used in the mode it is in: switch it to eval for a loss without dropout.
    """
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    rows = supervise([{"messages": messages}], Supervision(tokenizer=tokenizer), where="the safety example")
    refuse_beyond(model, rows[0]["input_ids"], "the model")
    device = next(model.parameters()).device
    input_ids = torch.tensor([rows[0]["input_ids"]], device=device)
    labels = torch.tensor([rows[0]["labels"]], device=device)

    def loss() -> Tensor:
        logits = model(input_ids=input_ids, use_cache=False).logits[0, :-1].float()
        return torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100)

    return loss
