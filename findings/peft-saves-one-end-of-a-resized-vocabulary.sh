#!/usr/bin/env bash
# PEFT 0.21.2 (transformers 5.23.0): save_pretrained(save_embedding_layers=True) saves one end of the vocabulary alone
# as soon as a LoRA targets an end: with lm_head among the targets the embedding is left out, with embed_tokens the
# head. What was learned in the rows of new tokens is gone from the folder without a word; the adapter loads, and
# answers otherwise than what was trained. Where no end is a target, both are saved.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 peft==0.21.2
cat > "$place/ends.py" <<'PY'
import sys

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def grown():
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))
    model.resize_token_embeddings(66, mean_resizing=False)
    return model


def saved(name, targets):
    torch.manual_seed(1)
    model = get_peft_model(grown(), LoraConfig(target_modules=targets)).eval()
    with torch.no_grad():  # Stands for a training of the two new tokens.
        model.get_input_embeddings().weight[64:] += 1
        model.get_output_embeddings().weight[64:] += 1
    folder = f"{sys.argv[1]}/{name}"
    model.save_pretrained(folder, save_embedding_layers=True)
    with safe_open(f"{folder}/adapter_model.safetensors", "pt") as file:
        ends = sorted({end for key in file.keys() for end in ("embed_tokens", "lm_head") if end in key and "lora" not in key})
    ids = torch.tensor([[1, 64, 65]])
    with torch.inference_mode():
        again = PeftModel.from_pretrained(grown(), folder).eval()
        same = torch.allclose(model(ids).logits, again(ids).logits, atol=1e-5)
    print(f"LoRA on {' and '.join(targets)}: saved {ends}, logits equal: {same}")


saved("inner", ["q_proj"])
saved("head", ["q_proj", "lm_head"])
saved("embedding", ["q_proj", "embed_tokens"])
PY
seen=$("$place/env/bin/python" "$place/ends.py" "$place" 2> /dev/null)
echo "$seen"
expected="LoRA on q_proj: saved ['embed_tokens', 'lm_head'], logits equal: True
LoRA on q_proj and lm_head: saved ['lm_head'], logits equal: False
LoRA on q_proj and embed_tokens: saved ['embed_tokens'], logits equal: False"
[ "$seen" = "$expected" ] || { echo "this has changed" >&2; exit 1; }
