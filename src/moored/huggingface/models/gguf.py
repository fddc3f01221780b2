"""GGUF to safetensors: the one conversion that the embedded model needs."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel


def convert_gguf(gguf_file: Path, folder: Path) -> None:
    """Writes a quantized GGUF file as an ordinary checkpoint in bf16 with its tokenizer and chat template.

    Args:
        gguf_file: the file to read; its weights are dequantized.
        folder: where `model.safetensors`, `config.json` and the tokenizer go; made if it is not there.
    """
    source, name = gguf_file.parent, gguf_file.name
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name, trust_remote_code=False)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=name, dtype=torch.float32, trust_remote_code=False
    )
    # The weights are plain numbers by now, yet saving would refuse a model that remembers a quantizer.
    model.__dict__.pop("hf_quantizer", None)
    model.config.__dict__.pop("quantization_config", None)
    model.bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
