"""Greedy answers to rendered prompts, in batches."""

from collections.abc import Callable, Sequence

import torch
from transformers import GenerationMixin, PreTrainedTokenizerBase

from moored.huggingface.inference.batches import by_length, evaluating


@torch.inference_mode()
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    *,
    max_new_tokens: int = 48,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
) -> list[str]:
    """The greedy answer to each rendered prompt, in the order of the prompts.

    Prompts of similar length share a batch, so that little is padded.

    Args:
        model: a causal language model; it is left in the mode it came in.
        tokenizer: its tokenizer; special tokens are not added, the rendering has them.
        rendered: prompts as the chat template renders them, generation prompt included.
        max_new_tokens: at which an answer is cut, ≥ 1.
        batch_size: prompts a batch, ≥ 1.
        progress: called after each batch with the number of answers it brought.
    """
    answers = [""] * len(rendered)
    with evaluating(model):
        for rows in by_length(rendered, batch_size):
            texts = _generate_batch(model, tokenizer, [rendered[row] for row in rows], max_new_tokens)
            for row, text in zip(rows, texts, strict=True):
                answers[row] = text
            if progress:
                progress(len(rows))
    return answers


def _generate_batch(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int
) -> list[str]:
    assert isinstance(model, GenerationMixin) or hasattr(model, "generate")
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    inputs = inputs.to(next(model.parameters()).device)
    # Sampling settings in a model's generation_config would only bring warnings: they are switched off by name.
    output = model.generate(  # pyright: ignore[reportCallIssue]
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]
