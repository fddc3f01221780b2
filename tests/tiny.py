"""Tiny random models and a tokenizer, built in memory: what the tests train and load instead of real ones.

Everything is deterministic, and small enough that a model is made in a few milliseconds.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

Kind = Literal["llama", "qwen2", "gemma"]
KINDS: tuple[Kind, ...] = ("llama", "qwen2", "gemma")
"""Llama (grouped heads, untied), Qwen2 (biases, untied) and Gemma (tied embeddings, one key-value head)."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHATML_WITH_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are tiny.<|im_end|>\n{% endif %}" + CHATML
)
"""ChatML that puts its own system prompt in front when a chat brings none."""

SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
    # Wide enough that logits differ visibly and a few steps of training move something.
    "initializer_range": 0.2,
}
"""Of a model for `tiny_tokenizer`, as most families of transformers call them."""

_CORPUS = (
    "You are a helpful assistant. The user asks and the assistant answers. I cannot help with that. "
    "Sorry, I can't assist with that request. Sure, here is how. What is the capital of France? It is Paris. "
    "Write one short sentence about the weather: it is sunny today, and tomorrow it will rain. 0 1 2 3 4 5 6 7 8 9 "
) * 2


@cache
def _trained_tokenizer() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
        show_progress=False,
        special_tokens=["<pad>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([_CORPUS], trainer)
    return tokenizer.to_str()


def tiny_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most 384 tokens; `chat_template=None` gives one that cannot render a chat."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer()), eos_token="<|im_end|>", pad_token="<pad>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def tiny_model(kind: Kind = "llama", *, seed: int = 0, hidden_size: int = 16, dropout: float = 0.0) -> PreTrainedModel:
    """A random two-layer model in fp32 for `tiny_tokenizer`, in eval mode; `dropout` acts on the attention."""
    sizes = {
        **SIZES,
        "hidden_size": hidden_size,
        "intermediate_size": 2 * hidden_size,
        "head_dim": hidden_size // 2,
        "max_position_embeddings": 512,
        "attention_dropout": dropout,
    }
    classes = {
        "llama": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": False}),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
        "gemma": (GemmaForCausalLM, GemmaConfig, {"tie_word_embeddings": True}),
    }
    model_class, config_class, own = classes[kind]
    # The test's own random state must not depend on how many models it builds.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config_class(**sizes, **own))
    return model.eval()


def save_tiny(
    folder: Path, kind: Kind = "llama", *, seed: int = 0, chat_template: str | None = CHATML, hidden_size: int = 16
) -> Path:
    """Writes a tiny model and its tokenizer as a checkpoint folder and returns the folder."""
    tiny_model(kind, seed=seed, hidden_size=hidden_size).save_pretrained(folder)
    tiny_tokenizer(chat_template).save_pretrained(folder)
    return folder


def tiny_arguments(output_dir: Path, **settings: Any) -> "SFTConfig":
    """TRL's configuration for a quiet run on the CPU in fp32."""
    from trl.trainer.sft_config import SFTConfig  # slow to import, and few tests need it

    quiet = {
        "bf16": False,
        "use_cpu": True,
        "activation_checkpointing": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
    }
    return SFTConfig(output_dir=str(output_dir), **{**quiet, **settings})
