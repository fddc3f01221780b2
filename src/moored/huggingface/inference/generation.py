"""Greedy answers to rendered prompts, in batches."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedTokenizerBase

from moored.errors import ModelError
from moored.huggingface.inference.batches import Ids, by_length, evaluating, token_ids
from moored.huggingface.inference.shared_start import SharedStart, encode_shared_start


@torch.inference_mode()
def generate(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    *,
    max_new_tokens: int = 48,
    batch_size: int = 32,
    progress: Callable[[int], object] | None = None,
    name: str = "the model",
) -> list[str]:
    """The greedy answer to each rendered prompt, in the order of the prompts.

    Prompts of similar length share a batch, so that little is padded; what all begin with is encoded once.

    Args:
        model: a causal language model; it is left in the mode it came in.
        tokenizer: its tokenizer; special tokens are not added, the rendering has them.
        rendered: prompts as the chat template renders them, generation prompt included.
        max_new_tokens: at which an answer is cut, ≥ 1.
        batch_size: prompts a batch, ≥ 1.
        progress: called after each batch with the number of answers it brought.
        name: the model's name in an error message.

    Raises:
        ModelError: the model's logits are NaN or infinite.
    """
    checks = LogitsProcessorList([_FiniteLogits(name)])
    answers, prompts = [""] * len(rendered), token_ids(tokenizer, rendered)
    with evaluating(model), _plainly_greedy(model, tokenizer, max_new_tokens), _contiguous_head(model):
        shared = encode_shared_start(model, prompts, gaps=True)
        for rows in by_length(rendered, batch_size):
            texts = _generate_batch(model, tokenizer, [prompts[row] for row in rows], shared, checks)
            for row, text in zip(rows, texts, strict=True):
                answers[row] = text
            if progress:
                progress(len(rows))
    return answers


class _FiniteLogits(LogitsProcessor):
    """Stops a generation whose logits choose nothing; its answers would look like those of a model that is silent."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The logits as they are. A model may rule tokens out by -inf; a NaN anywhere makes the maximum NaN."""
        if not scores.amax(dim=-1).isfinite().all():
            raise ModelError(
                f"The logits of {self._name} are NaN or infinite, so its answers would mean nothing; load it in "
                "float32 (`moored measure --dtype float32`), or check its weights."
            )
        return scores


@contextmanager
def _plainly_greedy(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, max_new_tokens: int) -> Iterator[None]:
    """A checkpoint's own settings may sample or punish repetition; what is measured is the bare argmax."""
    causal: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    own = causal.generation_config
    causal.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        # A chat model may end its turn with one token and a text with another; its own settings list both.
        eos_token_id=tokenizer.eos_token_id if own.eos_token_id is None else own.eos_token_id,
    )
    try:
        yield
    finally:
        causal.generation_config = own


@contextmanager
def _contiguous_head(model: torch.nn.Module) -> Iterator[None]:
    """Lets the output head see its states in one piece.

    After a batch of prompts it is called with a slice, their last positions, and with a frozen weight a product of that
    in three dimensions copies the weight for every prompt: on a CPU that is slow, and gigabytes.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    if head is None:
        yield
        return
    hook = head.register_forward_pre_hook(lambda _, inputs: tuple(map(_in_one_piece, inputs)))
    try:
        yield
    finally:
        hook.remove()


def _in_one_piece(value: Any) -> Any:
    return value.contiguous() if isinstance(value, torch.Tensor) else value


def _generate_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Ids],
    shared: SharedStart,
    checks: LogitsProcessorList,
) -> list[str]:
    """Padding stands after what is shared, and before what is not."""
    rests = [prompt[shared.length :] for prompt in prompts]
    width = max(map(len, rests))
    pads = [width - len(rest) for rest in rests]
    start, pad = prompts[0][: shared.length], tokenizer.pad_token_id
    ids = [start + [pad] * missing + rest for missing, rest in zip(pads, rests, strict=True)]
    seen = [[1] * len(start) + [0] * missing + [1] * (width - missing) for missing in pads]
    device = next(model.parameters()).device
    inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(seen, device=device)}
    output = model.generate(**inputs, **shared.repeated(model, len(prompts)), logits_processor=checks)
    texts = tokenizer.batch_decode(output[:, shared.length + width :], skip_special_tokens=True)
    return [text.strip() for text in texts]
