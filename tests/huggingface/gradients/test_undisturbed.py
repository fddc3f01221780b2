"""What scoring leaves behind: nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.huggingface.gradients.models import lora_config, make, padded, rows
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moored.errors import InputError
from moored.huggingface.gradients import score


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model and the process that a later step of training can see."""
    return {
        "random": torch.get_rng_state().tolist(),
        "modes": [module.training for module in model.modules()],
        "attributes": [
            {key: repr(value) for key, value in vars(module).items() if not key.startswith("_")}
            for module in model.modules()
        ],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        "parameters": [
            (name, id(p), p.requires_grad, p.grad, p._version, len(p._backward_hooks or ()))
            for name, p in model.named_parameters()
        ],
        "buffers": [(name, id(buffer), buffer.tolist()) for name, buffer in model.named_buffers()],
    }


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "mixtral"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_a_model_is_left_as_found(family: str, lora: bool):
    model = make(family, lora=lora)
    [*model.modules()][-3].eval()
    before = _state(model)
    score(model, padded(rows()))
    assert _state(model) == before


@pytest.mark.parametrize("when", ["forward", "backward"])
def test_a_model_is_left_as_found_after_an_exception(when: str):
    model = make("mixtral")
    before = _state(model)

    class Failure(Exception): ...

    def fail(*_: Any) -> None:
        raise Failure

    last, first = model.model.layers[1].mlp, model.model.layers[0].mlp
    hook = last.register_forward_hook(fail) if when == "forward" else first.register_full_backward_hook(fail)
    with pytest.raises(Failure):
        score(model, padded(rows()))
    hook.remove()
    assert _state(model) == before
    score(model, padded(rows()))


def test_gradients_that_are_there_stay():
    model = make("qwen2")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    score(model, padded(rows()))
    assert all(parameter.grad.eq(1).all() for parameter in model.parameters())


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_no_gradient_and_no_hook_call_reaches_a_parameter(lora: bool):
    model = make("llama-tied-biases", lora=lora)
    called: list[Any] = []
    kept = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(called.append)
            accumulator = parameter.expand_as(parameter).grad_fn.next_functions[0][0]
            accumulator.register_hook(lambda *_: called.append("accumulated"))
            kept.append(accumulator)
    score(model, padded(rows()))
    assert called == []
    model(**padded(rows())).loss.backward()
    assert len(called) >= len(kept), "the hooks are still in place"


def test_ddp_reduces_nothing_and_goes_on(tmp_path: Path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = make("llama", lora=True)
        wrapped = DistributedDataParallel(model)
        reduced: list[int] = []

        def note(_: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # pyright: ignore[reportPrivateImportUsage]
            reduced.append(bucket.index())
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        wrapped.register_comm_hook(None, note)
        assert torch.equal(score(wrapped, padded(rows())).norms, score(model, padded(rows())).norms)
        assert reduced == []
        wrapped(**padded(rows())).loss.backward()
        assert reduced
    finally:
        dist.destroy_process_group()


def test_dropout_is_off_for_the_scoring_only():
    model, batch = make("llama", lora=True, attention_dropout=0.5), padded(rows())
    assert torch.equal(score(model, batch).norms, score(model, batch).norms)
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_buffers_that_the_forward_pass_changes_are_put_back():
    model = make("llama")
    model.model.register_buffer("steps", torch.zeros(3))
    model.model.register_buffer("other", torch.zeros(3))
    other = model.model.other

    def count(module: Any, *_: Any) -> None:
        module.steps += 1
        module.other = torch.ones(3)

    model.model.register_forward_pre_hook(count)
    score(model, padded(rows()))
    assert model.model.steps.tolist() == [0, 0, 0]
    assert model.model.other is other


def test_random_numbers_by_other_means_than_dropout_raise():
    model = make("llama", lora=True)
    model.model.model.layers[0].mlp.register_forward_hook(lambda _, __, output: output + torch.randn_like(output))
    before = torch.get_rng_state()
    with pytest.raises(InputError, match="draws random numbers"):
        score(model, padded(rows()))
    assert torch.equal(torch.get_rng_state(), before)


def test_scoring_works_where_gradients_are_off():
    model, batch = make("llama", lora=True), padded(rows())
    with torch.no_grad():
        scores = score(model, batch)
    assert torch.equal(scores.norms, score(model, batch).norms)


def test_an_unused_adapter_is_not_scored():
    model, batch = make("llama", lora=True), padded(rows())
    expected = score(model, batch)
    model.add_adapter("frozen", lora_config("llama"))
    assert torch.equal(score(model, batch).norms, expected.norms)
