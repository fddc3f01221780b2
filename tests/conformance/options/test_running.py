"""What happens to a run on its way: memory runs out, bf16, the compiler, a second run, weights that break."""

from typing import Any

import pytest
import torch
from peft import LoraConfig
from tests.conformance.cases import case
from tests.conformance.trainers.steps import (
    LORA,
    TRL,
    WORDS,
    distance,
    of_safety_tokens,
    penalty_gradient,
    run,
    watched,
)
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs, token_rows
from tests.tiny import tiny_model, tiny_tokenizer
from torch import nn
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from moored import GradientSelection, SafetyTokens, UpdateNorm
from moored.errors import DivergedError, InputError
from moored.huggingface.training import SafeguardedSFTTrainer

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]
_ = light_runs

_HOLD = [UpdateNorm(strength=0.7), SafetyTokens(strength=3.0, tokens=WORDS, reference="model")]
_SELECT = [GradientSelection(keep=0.5)]


def _maker(folder: Any, guarded: bool = True, prepare: Any = None, **option: Any) -> Any:
    kind = watched(SFTTrainer, SafeguardedSFTTrainer) if guarded else watched(SFTTrainer)
    lora, optimizers = option.pop("lora", LORA), option.pop("optimizers", None)

    def make(safeguards: Any) -> Any:
        torch.manual_seed(3)
        model = tiny_model().train()
        more: dict[str, Any] = {"safeguards": safeguards} if guarded else {}
        if optimizers is not None:
            more["optimizers"] = (optimizers(model), None)
        trainer = kind(
            model=model, args=SFTConfig(str(folder), **{**TRL, **option}), train_dataset=token_rows(24),
            processing_class=tiny_tokenizer(), peft_config=LoraConfig(**lora) if lora else None, **more,
        )  # fmt: skip
        if prepare is not None:
            prepare(trainer)
        return trainer

    return make


def _short_of_memory(at: int, where: str) -> Any:
    """Lets one micro-batch run out of memory, before its forward pass or in its backward pass."""

    def prepare(trainer: Any) -> None:
        step, seen = trainer.training_step, []

        def training_step(*args: Any, **kwargs: Any) -> Any:
            seen.append(None)
            if len(seen) == at and where == "after":
                step(*args, **kwargs)
            if len(seen) == at:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return step(*args, **kwargs)

        trainer.training_step = training_step

    return prepare


_OOM = [
    case(f"auto_find_batch_size, memory ran out {where} micro-batch {at}", at, where, fast=(at, where) == (4, "after"))
    for at in (1, 2, 4)
    for where in ("before", "after")
]
_FINDING = {"auto_find_batch_size": True, "per_device_train_batch_size": 4, "max_steps": 3}


@pytest.mark.parametrize(("at", "where"), _OOM)
def test_a_smaller_batch_changes_no_anchor(tmp_path, at, where):
    """The Trainer keeps what the failed attempt has trained; the anchor stays that of the start."""
    plain = run(_maker(tmp_path, guarded=False, prepare=_short_of_memory(at, where), **_FINDING))
    off = [UpdateNorm(strength=0.0), GradientSelection(keep=1.0)]
    idle = run(_maker(tmp_path, prepare=_short_of_memory(at, where), **_FINDING), off)
    for before, after in zip(plain.watch.weights, idle.watch.weights, strict=True):
        assert all(torch.equal(before[name], after[name]) for name in before)
    held = run(_maker(tmp_path, prepare=_short_of_memory(at, where), **_FINDING), _HOLD)
    assert held.state.train_batch_size == plain.state.train_batch_size < 4
    values = [entry["safety/update_norm/value"] for entry in held.state.log_history if "loss" in entry]
    start, now = held.watch.weights[0], held.watch.weights[-1]
    pairs = [(name.replace("lora_A", "lora_B"), name) for name in now if "lora_A" in name]
    expected = sum(float((now[b] @ now[a] - start[b] @ start[a]).square().sum()) for b, a in pairs)
    assert values[-1] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("safeguards", [case("auto_find_batch_size + gradient_selection", _SELECT)])
def test_a_selection_goes_on_with_the_smaller_batch(tmp_path, safeguards):
    chosen = run(_maker(tmp_path, prepare=_short_of_memory(3, "after"), **_FINDING), safeguards)
    (report,) = chosen.safeguard_report()
    assert 0 < report["kept"] < report["rows"] and chosen.state.global_step == 3


@pytest.mark.parametrize("lora", [case("bf16 autocast on the CPU", LORA), case("bf16 autocast, all parameters", None)])
def test_bf16_gives_the_gradients_of_fp32_but_for_rounding(tmp_path, lora):
    plain = run(_maker(tmp_path, guarded=False, bf16=True, lora=lora))
    tokens = SafetyTokens(strength=300.0, tokens=WORDS, reference="model")
    held = run(_maker(tmp_path, bf16=True, lora=lora), [tokens])
    assert distance(penalty_gradient(held, plain), of_safety_tokens(held, 300.0)) < 0.2
    first = next(entry for entry in held.state.log_history if "safety/safety_tokens/value" in entry)
    assert first["safety/safety_tokens/value"] == 0
    assert run(_maker(tmp_path, bf16=True, lora=lora), _SELECT).state.global_step == 2


@pytest.mark.filterwarnings("ignore")  # The compiler reads attributes of which PyTorch warns.
@pytest.mark.parametrize("settings", [case("torch_compile, backend eager", {"torch_compile_backend": "eager"})])
def test_a_compiled_model_is_guarded_too(tmp_path, settings):
    plain = run(_maker(tmp_path, guarded=False, **settings))
    held = run(_maker(tmp_path, **settings), _HOLD)
    names = {name: name.removeprefix("_orig_mod.") for name in held.watch.weights[0]}
    eager = run(_maker(tmp_path), _HOLD)
    found = {names[name]: each for name, each in penalty_gradient(held, plain).items()}
    assert distance(found, penalty_gradient(eager, run(_maker(tmp_path, guarded=False)))) < 1e-3
    torch._dynamo.reset()


@pytest.mark.parametrize("safeguards", [case("train() twice", _HOLD)])
def test_a_second_run_is_held_to_the_same_anchor(tmp_path, safeguards):
    trainer = run(_maker(tmp_path), safeguards)
    trainer.train()
    first = next(entry for entry in trainer.state.log_history if "safety/update_norm/value" in entry)
    assert first["safety/update_norm/value"] > 0 and first["safety/safety_tokens/value"] > 0


class _Breaking(torch.optim.SGD):
    """A user's optimizer that writes infinity at its second step."""

    steps = 0

    def step(self, closure: Any = None) -> None:
        super().step(closure)
        self.steps += 1
        if self.steps == 2:
            with torch.no_grad():
                self.param_groups[0]["params"][0].fill_(float("inf"))


def _breaking(model: nn.Module) -> Any:
    return _Breaking([each for each in model.parameters() if each.requires_grad], lr=0.01)


_ENDS = [
    case("a custom optimizer that breaks a weight at the last step", {"max_steps": 2}, outcome="refused", fast=True),
    case("the same before a checkpoint", {"save_strategy": "steps", "save_steps": 2}, outcome="refused"),
    case("the same before the last step", {"max_steps": 4}, outcome="refused"),
]


@pytest.mark.parametrize("settings", _ENDS)
@pytest.mark.parametrize("safeguards", [_HOLD, _SELECT], ids=["penalties", "selection"])
def test_weights_that_are_not_finite_are_refused(tmp_path, settings, safeguards):
    """A selection notices it earlier, since rows without a finite gradient cannot be compared."""
    with pytest.raises((DivergedError, InputError), match=r"diverged|a loss of nan") as raised:
        run(_maker(tmp_path, lora=None, optimizers=_breaking, **settings), safeguards)
    assert "\n" not in str(raised.value) and not list(tmp_path.glob("checkpoint-*"))
