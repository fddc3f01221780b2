"""Prompts of unlike lengths, and the plain computations that the batched ones are tested against."""

import torch
from tests.tiny import tiny_tokenizer
from torch import Tensor

from moored.huggingface.data import render_prompt

TOKENIZER = tiny_tokenizer()
PROMPTS = [
    "What is the capital of France?",
    "Hi",
    "Write one short sentence about the weather, about the rain, and about the capital of France.",
    "Ho",
    "You are a helpful assistant. 0 1 2 3 4 5",
]
RENDERED = [render_prompt(TOKENIZER, prompt, "You are helpful.") for prompt in PROMPTS]
"""All with one system prompt, as most templates have one."""
ENDINGS = ["Sorry", "I cannot help with that.", "Sure, here is how", "S", "It is Paris, and it is sunny today. 0 1 2"]


def ids_of(text: str) -> list[int]:
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def plain_logits(model: torch.nn.Module, prompt: str, answer: str) -> Tensor:
    """One sequence, no padding, no cache, all logits: those that predict each token of the answer."""
    start, ending = ids_of(prompt), ids_of(answer)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([start + ending])).logits[0].float()
    return logits[len(start) - 1 : len(start) - 1 + len(ending)]


def plain_log_prob(model: torch.nn.Module, prompt: str, answer: str) -> float:
    logits = plain_logits(model, prompt, answer).double()
    return sum(float(row.log_softmax(0)[token]) for row, token in zip(logits, ids_of(answer), strict=True))


def plain_answer(model: torch.nn.Module, prompt: str, max_new_tokens: int, ends: tuple[int, ...] = (2,)) -> str:
    """Greedy, token by token, the whole text through the model each time."""
    ids = ids_of(prompt)
    new: list[int] = []
    while len(new) < max_new_tokens and not (new and new[-1] in ends):
        with torch.no_grad():
            new.append(int(model(input_ids=torch.tensor([ids + new])).logits[0, -1].argmax()))
    return TOKENIZER.decode(new, skip_special_tokens=True).strip()
