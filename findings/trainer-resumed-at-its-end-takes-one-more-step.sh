#!/usr/bin/env bash
# transformers 5.23.0: a Trainer that is resumed from the checkpoint of its last step takes one more step. With
# max_steps=4 it ends at step 5, with other weights, unless the learning rate has come down to zero by then. It happens
# where the last step does not end an epoch. Whoever repeats a command with resume_from_checkpoint after it was
# interrupted between the last checkpoint and the final save gets another model than without the interruption.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cat > "$place/resume.py" <<'PY'
import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

SIZES = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
ROWS = [{"input_ids": [n, n + 1, n + 2], "labels": [n, n + 1, n + 2]} for n in range(12)]


def trainer():
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir=sys.argv[1], max_steps=4, save_steps=4, per_device_train_batch_size=2, use_cpu=True,
        lr_scheduler_type="constant", disable_tqdm=True, report_to="none", logging_strategy="no",
    )
    return Trainer(model=LlamaForCausalLM(LlamaConfig(**SIZES)), args=arguments, train_dataset=ROWS)


first = trainer()
first.train()
again = trainer()
again.train(resume_from_checkpoint=f"{sys.argv[1]}/checkpoint-4")
one, other = (each.model.lm_head.weight for each in (first, again))
print(f"first: step {first.state.global_step}")
print(f"resumed: step {again.state.global_step}, same weights: {torch.equal(one, other)}")
PY
seen=$("$place/env/bin/python" "$place/resume.py" "$place/run" 2> /dev/null | grep -v train_runtime)
echo "$seen"
expected="first: step 4
resumed: step 5, same weights: False"
[ "$seen" = "$expected" ] || { echo "this has changed" >&2; exit 1; }
