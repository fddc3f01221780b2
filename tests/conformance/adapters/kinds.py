"""Adapters that people bring, made by plain PEFT over tiny models, and every way in which moored reads one."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tests.conformance.cases import case
from tests.tiny import SIZES, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from moored.errors import ModelError
from moored.huggingface.models import FoldedWeights, ModelSource, load_model, require_fit, stack_adapters
from moored.recovery import LinearPull, OneShot
from moored.workflows.recover import by_example
from moored.workflows.recover.run import repair

ONE_SHOT = OneShot(prompt="How?", refusal="I cannot help with that.", learning_rate=3e-3, steps=2)
TARGETS = ["q_proj", "v_proj", "down_proj"]
IDS = torch.randint(3, 380, (2, 10), generator=torch.Generator().manual_seed(7))
_EXPERTS = {**SIZES, "max_position_embeddings": 512, "num_experts_per_tok": 2}
_SMALL = {"vocab_size": 384, "n_positions": 512, "n_embd": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.2}
BASES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny_model("llama"),
    "qwen2": lambda: tiny_model("qwen2"),
    "gemma": lambda: tiny_model("gemma"),
    "tied llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, max_position_embeddings=512, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**_SMALL, pad_token_id=0, bos_token_id=None, eos_token_id=2)),
    "mixtral": lambda: MixtralForCausalLM(MixtralConfig(**_EXPERTS, num_local_experts=4)),
    "qwen3 moe": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**_EXPERTS, num_experts=4, moe_intermediate_size=16)),
    "gpt-oss": lambda: GptOssForCausalLM(GptOssConfig(**_EXPERTS, num_local_experts=4)),
}


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An adapter as PEFT saved it, and the logits of the model that it was saved from."""

    base: Path
    adapter: Path
    logits: Tensor
    vocabulary: int | None = None
    """The size to which a user resizes the base before PEFT reads the adapter."""

    @property
    def source(self) -> ModelSource:
        return ModelSource(str(self.base), self.adapter)


class Shelf:
    """Base models and adapters, each made once a session."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = cache(self._base)
        self.train = cache(self._train)

    def _base(self, kind: str) -> Path:
        folder = self.folder / "bases" / kind.replace(" ", "-")
        with torch.random.fork_rng(devices=[]), quietly():
            torch.manual_seed(0)
            BASES[kind]().save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)
        return folder

    def _train(
        self,
        kind: str,
        config: Callable[[], PeftConfig],
        *,
        vocabulary: int | None = None,
        prepare: Callable[[Any, Any], None] | None = None,
        save_embedding_layers: bool | str = False,
    ) -> Trained:
        """An adapter none of whose tensors is as it began."""
        folder = self.folder / "adapters" / str(len(list((self.folder / "adapters").glob("*"))))
        with torch.random.fork_rng(devices=[]), quietly():
            torch.manual_seed(1)
            base, settings = plain(self.base(kind), vocabulary), config()
            if prepare is not None:
                prepare(base, settings)
            model = get_peft_model(base, settings)
            shake(model)
            model.save_pretrained(str(folder), save_embedding_layers=save_embedding_layers)
            return Trained(base=self.base(kind), adapter=folder, logits=logits_of(model), vocabulary=vocabulary)

    def variant(
        self,
        of: Trained,
        folder: Path,
        *,
        tensors: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
        config: Callable[[dict[str, Any]], object] | None = None,
    ) -> Trained:
        """A copy of an adapter with other tensors or another configuration."""
        shutil.copytree(of.adapter, folder)
        if tensors is not None:
            file = folder / "adapter_model.safetensors"
            changed = tensors(load_file(file))
            save_file({name: each.contiguous().clone() for name, each in changed.items()}, file)
        if config is not None:
            file = folder / "adapter_config.json"
            file.write_text(json.dumps(config(json.loads(file.read_text()))))
        return Trained(base=of.base, adapter=folder, logits=of.logits, vocabulary=of.vocabulary)


def quietly() -> Any:
    """PEFT warns of much that is meant here."""
    return warnings.catch_warnings(action="ignore")


def plain(base: Path, vocabulary: int | None = None) -> Any:
    """The base model by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    if vocabulary is not None:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    return model


def shake(model: Any, *, size: float = 0.15) -> None:
    """Moves every trained tensor from where it began, in place, as training would."""
    draw = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        if parameter.requires_grad:
            noise = size * torch.randn(parameter.shape, generator=draw)
            parameter.data.add_(noise.to(parameter.dtype))


@torch.no_grad()
def logits_of(model: Any) -> Tensor:
    return model.eval()(input_ids=IDS, use_cache=False).logits.float()


def by_peft(trained: Trained, adapter: Path) -> Any:
    """The base, as a user would load it, under an adapter as plain PEFT reads it."""
    with quietly():
        model = PeftModel.from_pretrained(plain(trained.base, trained.vocabulary), str(adapter))
    return model.get_base_model().eval()


def lora(**settings: Any) -> Callable[[], LoraConfig]:
    defaults = {"r": 2, "lora_alpha": 6, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    return lambda: LoraConfig(**{**defaults, **settings})


def works(kind: str, *values: Any, fast: bool = False) -> Any:
    """Every way, formula repairs and stacking among them."""
    return case(kind, *values, None, fast=fast)


def not_by_formula(kind: str, *values: Any, match: str = "is more than a plain LoRA", fast: bool = False) -> Any:
    """Measured, and repaired by example; one sentence refuses it where two factors are needed."""
    note = "measure and one_shot; linear_pull, safe_lora and training on top refuse it"
    return case(kind, *values, match, outcome="limited", note=note, fast=fast)


def assert_near(found: Tensor, wanted: Tensor, *, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


class Ways:
    """The ways of one adapter through moored, each compared with a plain computation."""

    def __init__(self, trained: Trained, folder: Path) -> None:
        self.trained, self._folder = trained, folder

    def load(self) -> None:
        """As measure loads it, and as recover does: the logits of the model that it was saved from."""
        assert (logits_of(plain(self.trained.base, self.trained.vocabulary)) - self.trained.logits).abs().max() > 0.05
        require_fit(self.trained.source)
        assert_near(logits_of(load_model(self.trained.source, merge=True)), self.trained.logits)
        assert_near(logits_of(load_model(self.trained.source, trainable=True)), self.trained.logits)

    def recover(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The written adapter, read again by plain PEFT, is the model in memory; and something was repaired."""
        in_memory, save = [], by_example.save_adapter_like

        def spy(original: Path, model: Any, folder: Path) -> None:
            in_memory.append(logits_of(model))
            save(original, model, folder)

        monkeypatch.setattr(by_example, "save_adapter_like", spy)
        repair(ONE_SHOT, str(self.trained.base), adapter=self.trained.adapter, out=self._folder / "repaired")
        written = self._folder / "repaired"
        assert_near(logits_of(by_peft(self.trained, written)), in_memory[0])
        assert (in_memory[0] - self.trained.logits).abs().max() > 1e-3
        names = {file.name for file in self.trained.adapter.iterdir() if file.suffix in (".json", ".jinja")}
        assert names <= {file.name for file in written.iterdir()}
        assert_near(logits_of(load_model(ModelSource(str(self.trained.base), written), merge=True)), in_memory[0])

    def formula(self) -> None:
        """Half of the way back, the folded weights, and the adapter on top of itself: all as sums of weights."""
        below, above = self._weights(None), self._weights(self.trained.adapter)
        pulled, doubled = self._folder / "pulled", self._folder / "doubled"
        repair(LinearPull(share=0.5), str(self.trained.base), adapter=self.trained.adapter, out=pulled)
        stack_adapters(self.trained.adapter, self.trained.adapter, doubled)
        for adapter, share in ((pulled, 0.5), (doubled, 2.0)):
            found = self._weights(adapter)
            for name, weight in below.items():
                assert_near(found[name], weight + share * (above[name] - weight))
        folded = FoldedWeights(self.trained.source)
        for name in filter(folded.holds, above):
            assert_near(folded.read(name), above[name])

    def _weights(self, adapter: Path | None) -> dict[str, Tensor]:
        """All weights under an adapter as PEFT adds it, once no two of them are one."""
        model = plain(self.trained.base)
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
        if adapter is not None:
            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        return {name: weight.clone() for name, weight in model.state_dict().items()}

    def refused_by_formula(self, match: str) -> None:
        out = self._folder / "pulled"
        for read in (
            lambda: repair(LinearPull(), str(self.trained.base), adapter=self.trained.adapter, out=out),
            lambda: FoldedWeights(self.trained.source),
            lambda: stack_adapters(self.trained.adapter, self.trained.adapter, out),
        ):
            with pytest.raises(ModelError, match=match):
                read()
        assert not out.exists()

    def all(self, formula: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        with quietly():
            self.load()
            self.recover(monkeypatch)
            if formula is None:
                self.formula()
            else:
                self.refused_by_formula(formula)


def refused(trained: Trained, match: str, folder: Path) -> None:
    """One sentence, before anything is loaded or written, whichever way the adapter goes."""
    out = folder / "out"
    with quietly():
        for read in (
            lambda: require_fit(trained.source),
            lambda: load_model(trained.source, merge=True),
            lambda: repair(ONE_SHOT, str(trained.base), adapter=trained.adapter, out=out),
            lambda: repair(LinearPull(), str(trained.base), adapter=trained.adapter, out=out),
            lambda: FoldedWeights(trained.source),
        ):
            with pytest.raises(ModelError, match=match) as raised:
                read()
            text = str(raised.value)
            assert "\n" not in text and text.endswith(".") and "Traceback" not in text
    assert not out.exists()
