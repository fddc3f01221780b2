"""The reference is what the model said before it was trained, and asking for it leaves no trace."""

from typing import Any

import pytest
import torch
from peft import get_peft_model
from tests.huggingface.gradients.models import ARRANGEMENTS, lora_config, make, packed, padded, rows
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from torch import Tensor, nn

from moored.errors import ModelError
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions
from moored.huggingface.safeguards.hidden_states import hidden_states
from moored.huggingface.safeguards.start_logits import StartLogits, StartWeights, at_rest

pytestmark = THIRD_PARTY_WARNINGS
FAMILIES = ["llama", "qwen2", "gemma", "gemma2", "gpt2"]
TOKENS = (300, 7, 12, 383, 0)


def _train(model: Any, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=0.05)
    for _ in range(steps):
        model(**padded(rows())).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _said(model: Any, batch: dict[str, Tensor], first: int | None = None) -> Tensor:
    """What the whole model says at the guarded positions, without dropout."""
    with at_rest(model):
        return model(**batch, use_cache=False).logits.float()[guarded_positions(batch, first)][:, list(TOKENS)]


def _anchor(model: Any, **settings: Any) -> StartLogits:
    return StartLogits(model, SalientHead(model, TOKENS), start=StartWeights(model), **settings)


def _bits(model: nn.Module) -> list[Tensor]:
    return [each.detach().clone() for each in (*model.parameters(), *model.buffers())]


def _assert_same_bits(model: nn.Module, before: list[Tensor]) -> None:
    assert all(torch.equal(now, then) for now, then in zip(_bits(model), before, strict=True))


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("first", [None, 2])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_is_what_was_said_before_training(family: str, lora: bool, first: int | None, arrangement: str):
    model, batch = make(family, lora=lora), ARRANGEMENTS[arrangement](rows())
    anchor, before = _anchor(model, first=first), _said(model, batch, first)
    _train(model)
    trained = _bits(model)

    found = anchor.of(batch)

    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, before, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(_said(model, batch, first), before, atol=0.01)
    _assert_same_bits(model, trained)


def test_without_start_weights_it_is_what_is_said_now():
    model, batch = make("llama"), padded(rows())
    anchor = StartLogits(model, SalientHead(model, TOKENS))
    _train(model)
    torch.testing.assert_close(anchor.of(batch), _said(model, batch), rtol=1e-5, atol=1e-5)


def test_noise_that_is_for_training_alone_stays_out():
    """As NEFTune's, which no dropout module makes."""
    model, batch = make("llama", lora=True), padded(rows())
    anchor = _anchor(model)
    plain = anchor.of(batch)
    model.get_base_model().model.embed_tokens.register_forward_hook(
        lambda module, args, output: output + torch.rand_like(output) if module.training else output
    )
    assert torch.equal(anchor.of(batch), plain)


def test_padded_and_packed_say_the_same():
    anchor = _anchor(make("qwen2"))
    torch.testing.assert_close(anchor.of(padded(rows())), anchor.of(packed(rows())), rtol=1e-4, atol=1e-4)


def _state(model: nn.Module) -> dict[str, Any]:
    return {
        "random": torch.get_rng_state().tolist(),
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(module._forward_hooks), len(module._forward_pre_hooks)) for module in model.modules()],
        "parameters": [
            (name, id(each), each.requires_grad, each.grad, each.data_ptr(), each._version)
            for name, each in model.named_parameters()
        ],
        "buffers": [(name, id(each), each.tolist()) for name, each in model.named_buffers()],
    }


@pytest.mark.parametrize("family", ["gemma2", "mixtral"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_model_is_left_as_found(family: str, lora: bool):
    model = make(family, lora=lora)
    [*model.modules()][-3].eval()
    anchor = _anchor(model)
    _train(model)
    before, bits = _state(model), _bits(model)
    anchor.of(padded(rows()))
    assert _state(model) == before
    _assert_same_bits(model, bits)


def test_the_model_is_left_as_found_after_an_exception():
    model = make("llama", lora=True)
    start = StartWeights(model)
    _train(model)
    before, bits = _state(model), _bits(model)
    with pytest.raises(ZeroDivisionError), start.in_place():
        assert any(not torch.equal(now, then) for now, then in zip(_bits(model), bits, strict=True))
        raise ZeroDivisionError
    assert _state(model) == before
    _assert_same_bits(model, bits)


def test_frozen_weights_are_not_copied():
    model = make("llama", lora=True)
    frozen = {each.data_ptr() for each in model.parameters() if not each.requires_grad}
    with StartWeights(model).in_place():
        assert {each.data_ptr() for each in model.parameters() if not each.requires_grad} == frozen


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_gradients_are_those_without_it(lora: bool, checkpointed: bool):
    """Asked between a forward pass and its backward pass, all under one autocast, which keeps casts of the weights."""
    model, batch = make("llama", lora=lora, attention_dropout=0.0), padded(rows())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    anchor = _anchor(model)
    _train(model)
    if checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})

    def gradients(*, asked: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            if asked:
                anchor.of(batch)
            loss = model(**batch, use_cache=False).loss
            if asked:
                anchor.of(batch)
            again = model(**batch, use_cache=False).loss
            (loss + again).backward()
        found = [each.grad for each in model.parameters() if each.requires_grad]
        model.zero_grad(set_to_none=True)
        return found

    for asked, plain in zip(gradients(asked=True), gradients(asked=False), strict=True):
        assert torch.equal(asked, plain)


@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_under_autocast_the_difference_starts_at_zero_and_the_start_stays_the_start(lora: bool):
    model, batch = make("qwen2", lora=lora, attention_dropout=0.0), padded(rows())
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    anchor = _anchor(model)

    def both() -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            with hidden_states(model) as seen:
                model(**batch, use_cache=False)
            return anchor.head.logits(seen.at(guarded_positions(batch))), anchor.of(batch)

    current, before = both()
    assert torch.equal(current, before)
    _train(model)
    current, after = both()
    assert torch.equal(after, before)
    assert not torch.allclose(current, before, atol=0.05)


def test_a_head_that_does_more_is_refused():
    model = make("llama")
    plain = model.lm_head.forward
    model.lm_head.forward = lambda x: 3 * plain(x)
    with pytest.raises(ModelError, match="computes its logits in an unknown way"):
        _anchor(model).of(padded(rows()))


def test_packed_documents_that_see_one_another_are_refused():
    model = get_peft_model(make("llama"), lora_config("llama"))
    inner = model.get_base_model().model
    plain = inner.forward
    inner.forward = lambda *, position_ids=None, **inputs: plain(**inputs)
    anchor = _anchor(model)
    anchor.of(padded(rows()))
    with pytest.raises(ModelError, match="see one another"):
        anchor.of(packed(rows()))


def test_what_trl_adds_to_a_batch_is_no_matter():
    anchor, batch = _anchor(make("llama")), padded(rows())
    assert torch.equal(anchor.of({**batch, "use_cache": False}), anchor.of(batch))
