"""An ordinary TRL script, and the four lines that moored changes in it (marked 1 to 4).

Usage: python examples/trl_script.py MODEL DATA.jsonl OUT
"""

import sys

from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.trainer.sft_config import SFTConfig

import moored  # 1: new
from moored.huggingface import SafeguardedSFTTrainer  # 2: was `from trl import SFTTrainer`


def main(model: str, data: str, out: str) -> None:
    trainer = SafeguardedSFTTrainer(  # 3: was `SFTTrainer(`
        model=AutoModelForCausalLM.from_pretrained(model),
        # In fp32 and without checkpointing it runs anywhere; on a GPU leave both to TRL's defaults.
        args=SFTConfig(out, max_steps=8, learning_rate=1e-3, bf16=False, activation_checkpointing=False),
        train_dataset=load_dataset("json", data_files=data, split="train"),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=LoraConfig(r=8, target_modules="all-linear"),
        # 4: with none the weights are TRL's own, bit for bit
        safeguards=[moored.HarmfulDirection(strength=1.0, examples=moored.harmful_examples())],
    )
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
