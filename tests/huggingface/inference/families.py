"""Tiny models of families that attend, and keep their state, in different ways."""

import torch
from tests.adapters import random_adapter
from tests.tiny import KINDS, SIZES, tiny_model
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MptConfig,
    MptForCausalLM,
)


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


MODELS = {kind: lambda kind=kind: tiny_model(kind) for kind in KINDS} | {
    "adapter": lambda: random_adapter("qwen2"),
    # A window shorter than the prompts, and logits that are capped.
    "gemma2": lambda: _seeded(
        lambda: Gemma2ForCausalLM(
            Gemma2Config(**SIZES, sliding_window=8, final_logit_softcapping=0.5, query_pre_attn_scalar=8)
        )
    ),
    "granite, scaled logits": lambda: _seeded(lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=3.0))),
    # Convolutions beside attention: half of its cache can be repeated, which is worse than nothing.
    "lfm2": lambda: _seeded(
        lambda: Lfm2ForCausalLM(
            Lfm2Config(**SIZES, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False)
        )
    ),
    # Learned positions, and biases that count places, from the attention mask or without it.
    "gpt2": lambda: _seeded(lambda: GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2))),
    "bloom": lambda: _seeded(
        lambda: BloomForCausalLM(BloomConfig(vocab_size=384, hidden_size=16, n_layer=2, n_head=2))
    ),
    "mpt": lambda: _seeded(lambda: MptForCausalLM(MptConfig(vocab_size=384, d_model=16, n_layers=2, n_heads=2))),
    # Its state is no list of keys and values that could be repeated.
    "mamba": lambda: _seeded(
        lambda: MambaForCausalLM(
            MambaConfig(vocab_size=384, hidden_size=16, state_size=4, num_hidden_layers=2, pad_token_id=0)
        )
    ),
}
