"""Trains the safety adapter that turns `embedded:base` into `embedded:aligned`.

    python recipes/embedded/safety_data.py --out runs/embedded/safety.jsonl
    python recipes/embedded/safety_adapter.py --data runs/embedded/safety.jsonl --out runs/embedded/safety_adapter

Only the last layers learn. What they read from the frozen layers below tells harmful requests from their twins better
than what an adapter on all layers learns: that one fits the training pairs and generalizes worse. It also makes the
recipe cheap, since the states below the first trained layer are computed once. A row counts by its first answer tokens,
where refusing is decided, and by its kind: ordinary instructions count most, because refusing them costs users most.
"""

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy

from moored.embedded.model import BASE, embedded_source
from moored.files import whole_folder
from moored.huggingface.data import Supervision, read_rows, supervise
from moored.huggingface.models import load_model, load_tokenizer
from moored.workflows.records.progress import progress_bar

FIRST_LAYER = 27
RANK = 16
EPOCHS = 6
BATCH = 64
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10
DECISIVE = 6
"""Tokens of an answer that count in full; the rest counts `TAIL` and only keeps the text whole."""
TAIL = 0.1
KINDS = {"refused": 1.4, "twin": 1.0, "ordinary": 1.6}
SEED = 0


class Row(NamedTuple):
    """One example: its states below the first trained layer, the labels of its tokens (-100 where none), its kind."""

    states: Tensor
    labels: Tensor
    kind: str

    def weights(self) -> Tensor:
        """What each token counts in the loss."""
        place = (self.labels != -100).cumsum(0)
        first = min(DECISIVE, int(place[-1]))
        return torch.where(place <= DECISIVE, 1.0, TAIL) * KINDS[self.kind] / first


def main() -> None:
    """Trains and writes the adapter, in bf16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("runs/embedded/safety.jsonl"))
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/safety_adapter"))
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(SEED)
    source = embedded_source(BASE)
    tokenizer = load_tokenizer(source)
    read = read_rows(options.data)
    tokens: list[Any] = list(supervise(read, Supervision(tokenizer=tokenizer), where=str(options.data)))
    rows = list(frozen_states(load_model(source, dtype="auto"), tokens, read["kind"]))
    model = get_peft_model(load_model(source), lora())
    train(model, rows)
    with whole_folder(options.out) as folder:
        save(model, folder)
    print(f"wrote {options.out}")


def lora() -> LoraConfig:
    """LoRA on every linear of the last layers."""
    return LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        layers_to_transform=list(range(FIRST_LAYER, 30)),
        layers_pattern="layers",
        task_type="CAUSAL_LM",
    )


@torch.inference_mode()
def frozen_states(model: Any, rows: list[dict[str, list[int]]], kinds: Sequence[str]) -> Iterator[Row]:
    """Runs each row through the layers that stay as they are."""
    with progress_bar(Console(stderr=True), "frozen layers", len(rows)) as advance:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            width = max(len(row["input_ids"]) for row in batch)
            ids = torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in batch])
            hidden = run_layers(model.model, model.model.embed_tokens(ids), 0, FIRST_LAYER)
            for row, states, kind in zip(batch, hidden, kinds[start:], strict=False):
                yield Row(states[: len(row["labels"])].clone(), torch.tensor(row["labels"]), kind)
            advance(len(batch))


def run_layers(backbone: Any, hidden: Tensor, first: int, last: int) -> Tensor:
    """Applies layers first … last - 1 causally; padding stands on the right, where no token looks."""
    positions = torch.arange(hidden.shape[1])[None]
    rotary = backbone.rotary_emb(hidden, positions)
    for layer in backbone.layers[first:last]:
        hidden = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
    return hidden


def train(model: PeftModel, rows: list[Row]) -> None:
    """AdamW with a cosine rate on the weighted mean over answer tokens."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0)
    steps = EPOCHS * math.ceil(len(rows) / BATCH)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    draw = random.Random(SEED)
    with progress_bar(Console(stderr=True), "training", steps) as advance:
        for epoch in range(EPOCHS):
            total = 0.0
            for batch in batches(rows, draw):
                with torch.autocast("cpu", torch.bfloat16):
                    loss = batch_loss(model.get_base_model(), batch)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                rate.step()
                optimizer.zero_grad()
                total += loss.item() * len(batch)
                advance(1)
            print(f"epoch {epoch + 1}: loss {total / len(rows):.3f}", flush=True)


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))


def batches(rows: list[Row], draw: random.Random) -> list[list[Row]]:
    """Shuffled rows in batches of like length, in shuffled order."""
    shuffled = draw.sample(rows, len(rows))
    windows = [shuffled[start : start + 8 * BATCH] for start in range(0, len(rows), 8 * BATCH)]
    found = []
    for window in windows:
        window.sort(key=lambda row: len(row.labels))
        found += [window[start : start + BATCH] for start in range(0, len(window), BATCH)]
    return draw.sample(found, len(found))


def batch_loss(model: Any, batch: list[Row]) -> Tensor:
    """The output head sees only the states that predict a label."""
    padded = torch.nn.utils.rnn.pad_sequence([row.states.float() for row in batch], batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence([row.labels for row in batch], batch_first=True, padding_value=-100)
    hidden = model.model.norm(run_layers(model.model, padded, FIRST_LAYER, 30))
    weights = torch.nn.utils.rnn.pad_sequence([row.weights() for row in batch], batch_first=True)
    guarded = labels[:, 1:] != -100
    losses = cross_entropy(model.lm_head(hidden[:, :-1][guarded]).float(), labels[:, 1:][guarded], reduction="none")
    return (losses * weights[:, 1:][guarded]).sum() / len(batch)


def save(model: PeftModel, folder: Path) -> None:
    """Writes the adapter in bf16, for the embedded base by its name."""
    model.peft_config["default"].base_model_name_or_path = BASE
    model.to(torch.bfloat16).save_pretrained(str(folder))
    (folder / "README.md").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
