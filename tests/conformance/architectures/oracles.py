"""What moored computes, computed again in the plainest way: one sequence at a time, no cache, no padding, autograd."""

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tests.tiny import tiny_tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

_TURN = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = [
    _TURN.format(text)
    for text in ("Hi", "What is the capital of France, and of Italy?", "Write one short sentence about the weather.")
]
ANSWERS = ["I'm sorry, but I can't help with that.", "Sure, here is how", "No"]
LENGTH = 6
"""The number of tokens of an answer."""


def ids_of(text: str) -> list[int]:
    """The tokens of a text."""
    return tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


@torch.no_grad()
def logits_of(model: Any, ids: list[int]) -> Tensor:
    """The logits at all positions of one sequence."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()


def greedy_answer(model: Any, prompt: str) -> str:
    """The likeliest token after the prompt, after both, and so on."""
    tokenizer = tiny_tokenizer()
    ids, made = ids_of(prompt), []
    while len(made) < LENGTH and (not made or made[-1] != tokenizer.eos_token_id):
        made.append(int(logits_of(model, ids + made)[-1].argmax()))
    return str(tokenizer.decode(made, skip_special_tokens=True)).strip()


def log_prob_of(model: Any, prompt: str, answer: str) -> float:
    """The log-probability of an answer to a prompt."""
    start, end = ids_of(prompt), ids_of(answer)
    logits = logits_of(model, start + end)[len(start) - 1 : -1]
    return -float(cross_entropy(logits, torch.tensor(end), reduction="sum"))


def rows() -> list[tuple[list[int], list[int]]]:
    """The tokens and labels of three samples of different lengths."""
    pairs = [(ids_of(prompt)[-8:], ids_of(answer)) for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)]
    return [(start + end, [-100] * len(start) + end) for start, end in pairs]


def batch_of(side: str) -> dict[str, Tensor]:
    """The samples in one batch, padded on a side."""
    width = max(len(ids) for ids, _ in rows())
    columns: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "attention_mask": []}
    for ids, labels in rows():
        gap = width - len(ids)
        for name, values, filler in (
            ("input_ids", ids, 0),
            ("labels", labels, -100),
            ("attention_mask", [1] * len(ids), 0),
        ):
            columns[name].append([filler] * gap + values if side == "left" else values + [filler] * gap)
    return {name: torch.tensor(values) for name, values in columns.items()}


def norms_of(model: nn.Module) -> Tensor:
    """The norm of each sample's gradient, by autograd."""
    norms = []
    for ids, labels in rows():
        model.zero_grad()
        logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1].float()
        cross_entropy(logits, torch.tensor(labels[1:])).backward()
        squares = [p.grad.double().square().sum() for p in model.parameters() if p.grad is not None]
        norms.append(torch.stack(squares).sum().sqrt().float())
    model.zero_grad()
    return torch.stack(norms)


def attention_layers(model: nn.Module) -> list[str]:
    """The names of some plain linear layers inside a model's layers, none of them an expert's or the head."""
    named = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)]
    linear = [name for name, _ in named if ".0." in name]
    strange = ("expert", "router", "gate", "lm_head", "shared", "dt_proj", "out_proj", "vision", "visual", "audio")
    plain = [name for name in linear if not any(word in name for word in strange)]
    return (plain or linear)[:3]


def with_lora(model: Any, seed: int = 0) -> Any:
    """The model under a LoRA on some of its linear layers, none of whose factors is zero."""
    names = attention_layers(model)
    is_transposed = isinstance(model.get_submodule(names[0]), Conv1D)
    config = LoraConfig(r=2, lora_alpha=6, target_modules=names, fan_in_fan_out=is_transposed, task_type="CAUSAL_LM")
    made = get_peft_model(model, config)
    draw = torch.Generator().manual_seed(seed)
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=draw)
    return made.eval()
