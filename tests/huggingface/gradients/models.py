"""Tiny random models of many families, batches for them, and the plainest way to score a sample: alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers
from peft import LoraConfig, get_peft_model
from tests.huggingface.training.fixtures import light_runs
from tests.tiny import SIZES
from torch import Tensor, nn

from moored.huggingface.gradients import Scores

_ = light_runs

_MOE = {"num_experts_per_tok": 2, "moe_intermediate_size": 8}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"tie_word_embeddings": False}),
    "llama-tied-biases": ("Llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0, "sliding_window": 6}),
    "gemma3": ("Gemma3Text", {"sliding_window": 6}),
    "phi": ("Phi", {"num_key_value_heads": 2}),
    "phi3": ("Phi3", {}),
    "gpt2": ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
    "cohere": ("Cohere", {"logit_scale": 0.3, "use_qk_norm": True}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2, "router_jitter_noise": 0.1}),
    "qwen2-moe": ("Qwen2Moe", {**_MOE, "num_experts": 4, "shared_expert_intermediate_size": 8}),
}
"""Among them grouped heads, biases, tied matrices, 1 + w norms, norms on heads before and after their transposition,
soft-capped, scaled and biased logits, scaled embeddings, fused and transposed projections, learned positions,
experts."""


def make(family: str, *, lora: bool = False, **settings: Any) -> Any:
    """A model in fp32 and training mode, with dropout in it, and no norm or bias at its initial 1 or 0."""
    name, own = FAMILIES[family]
    sizes = {**SIZES, "query_pre_attn_scalar": 8, "max_position_embeddings": 64, "attention_dropout": 0.1}
    if family == "gpt2":
        sizes = {key: sizes[key] for key in ("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")}
    class_name = {"Gemma3Text": "Gemma3ForCausalLM", "GPT2": "GPT2LMHeadModel"}.get(name, f"{name}ForCausalLM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = getattr(transformers, f"{name}Config")(**{**sizes, **own, **settings})
        model = getattr(transformers, class_name)(config)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=1.0 if "gemma" not in family else 0.1, std=0.2)
        if lora:
            model = get_peft_model(model, lora_config(family))
    return model.train()


def lora_config(family: str, **settings: Any) -> LoraConfig:
    """LoRA on the attention and, where it is dense, on the rest; B is random, at 0 it would hide A's gradient."""
    projections = {
        "gpt2": ["c_attn", "c_proj", "c_fc"],
        "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
        "mixtral": ["q_proj", "k_proj", "v_proj", "o_proj"],
    }
    dense = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj"]
    plain = {
        "r": 4,
        "lora_alpha": 6,
        "lora_dropout": 0.1,
        "init_lora_weights": False,
        "fan_in_fan_out": family == "gpt2",
    }
    return LoraConfig(**{**plain, "target_modules": projections.get(family, dense), **settings})


def rows(lengths: tuple[int, ...] = (12, 9, 5, 11), prompt: int = 3) -> list[tuple[Tensor, Tensor]]:
    """Ids and labels of some samples; the first tokens of each are not learned, and some tokens come twice."""
    draw = torch.Generator().manual_seed(3)
    made = []
    for length in lengths:
        ids = torch.randint(3, 40, (length,), generator=draw)
        made.append((ids, torch.cat([torch.full((prompt,), -100), ids[prompt:]])))
    return made


def padded(samples: list[tuple[Tensor, Tensor]], *, left: bool = False) -> dict[str, Tensor]:
    """One row a sample; position ids count from each sample's start where the padding stands before it."""
    width = max(len(ids) for ids, _ in samples)

    def fill(values: Tensor, filler: int) -> Tensor:
        gap = torch.full((width - len(values),), filler)
        return torch.cat([gap, values] if left else [values, gap])

    mask = torch.stack([fill(torch.ones_like(ids), 0) for ids, _ in samples])
    batch = {
        "input_ids": torch.stack([fill(ids, 0) for ids, _ in samples]),
        "labels": torch.stack([fill(labels, -100) for _, labels in samples]),
        "attention_mask": mask,
    }
    return {**batch, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if left else batch


def packed(samples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """All samples in one row."""
    return {
        "input_ids": torch.cat([ids for ids, _ in samples])[None],
        "labels": torch.cat([labels for _, labels in samples])[None],
        "position_ids": torch.cat([torch.arange(len(ids)) for ids, _ in samples])[None],
    }


ARRANGEMENTS: dict[str, Callable[[list[tuple[Tensor, Tensor]]], dict[str, Tensor]]] = {
    "right": padded,
    "left": lambda samples: padded(samples, left=True),
    "packed": packed,
}


class Alone(NamedTuple):
    loss: float
    norm: float


def alone(model: Any, samples: list[tuple[Tensor, Tensor]]) -> list[Alone]:
    """Each sample by itself: an ordinary forward pass in eval mode, `backward()`, and the norm of `.grad`."""
    modes = {module: module.training for module in model.modules()}
    scored = [_alone(model.eval(), ids, labels) for ids, labels in samples]
    for module, training in modes.items():
        module.training = training
    return scored


def _alone(model: Any, ids: Tensor, labels: Tensor) -> Alone:
    logits = model(input_ids=ids[None], use_cache=False).logits[0].float()
    loss = nn.functional.cross_entropy(logits[:-1], labels[1:])
    loss.backward()
    squares = [p.grad.double().square().sum() for p in model.parameters() if p.requires_grad and p.grad is not None]
    model.zero_grad(set_to_none=True)
    return Alone(loss.item(), torch.stack(squares).sum().sqrt().item())


def assert_equal(scores: Scores, expected: list[Alone], tolerance: float = 1e-5) -> None:
    """Relative; the contract is 1e-4."""
    norms = torch.tensor([each.norm for each in expected])
    losses = torch.tensor([each.loss for each in expected])
    torch.testing.assert_close(scores.norms.cpu(), norms, rtol=tolerance, atol=0)
    torch.testing.assert_close(scores.losses.cpu(), losses, rtol=tolerance, atol=0)
