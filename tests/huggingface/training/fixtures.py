"""What the training tests share: data that is made of tokens already, dummy penalties, and one way to run a trainer."""

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tests.tiny import Kind, tiny_arguments, tiny_model, tiny_tokenizer
from torch import Tensor

from moored.huggingface.training import SafeguardedSFTTrainer
from moored.tensors.low_rank import Matrix, whole

THIRD_PARTY_WARNINGS = [
    # PEFT and TRL still use names that transformers renamed; nothing of ours can avoid it.
    pytest.mark.filterwarnings(r"ignore:`(is_)?gradient_checkpointing\w*` is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def light_runs():
    """A tiny run is a fraction of a second: more threads only wait for one another, and the trainer's own full
    garbage collection would take longer than the training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@dataclass(frozen=True, kw_only=True)
class L2:
    """The plainest weight penalty."""

    strength: float
    name: str = "l2"
    needs: frozenset[str] = frozenset()
    scaled: bool = True
    relative: bool = False

    def weight_penalty(self, update: Matrix, guide: Any) -> Tensor:
        return whole(update).square().sum()


def token_rows(count: int, *, length: int | None = None) -> Dataset:
    """Rows of random ids, of lengths 6 to 12 unless one is given; the first two tokens are not learned."""
    draw = torch.Generator().manual_seed(1)
    rows = []
    for number in range(count):
        ids = torch.randint(3, 300, (length or 6 + number % 7,), generator=draw).tolist()
        rows.append({"input_ids": ids, "labels": [-100, -100, *ids[2:]]})
    return Dataset.from_list(rows)


LORA = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def make_trainer(
    output_dir: Path,
    *,
    rows: Dataset,
    safeguards: Any = (),
    lora: dict[str, Any] | None = LORA,
    kind: Kind = "llama",
    dropout: float = 0.0,
    trainer_class: type = SafeguardedSFTTrainer,
    callbacks: Any = None,
    eval_rows: Dataset | None = None,
    **settings: Any,
) -> Any:
    """A trainer on a tiny model: plain SGD in fp32 without clipping unless `settings` say otherwise."""
    plain = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    extra = {} if trainer_class.__name__ == "SFTTrainer" else {"safeguards": safeguards}
    return trainer_class(
        model=tiny_model(kind, dropout=dropout).train(),
        args=tiny_arguments(output_dir, **{**plain, **settings}),
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(**lora) if lora else None,
        callbacks=callbacks,
        **extra,
    )


def weights(trainer: Any) -> dict[str, Tensor]:
    """The trained parameters by name."""
    return {name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad}


def trained(output_dir: Path, **settings: Any) -> tuple[Any, dict[str, Tensor]]:
    """A trainer after its run, and the weights before it; the settings are those of `make_trainer`."""
    trainer = make_trainer(output_dir, **settings)
    before = weights(trainer)
    trainer.train()
    return trainer, before


def assert_close(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    """Weights of the same names, equal but for rounding."""
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-4, atol=2e-6, msg=lambda m, name=name: f"{name}: {m}"
        )
