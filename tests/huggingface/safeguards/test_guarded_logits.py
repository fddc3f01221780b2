"""The logits of a few tokens are the model's own, and so are their gradients."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.huggingface.gradients.models import lora_config, make, packed, padded, rows
from torch import Tensor

from moored.errors import InputError, ModelError
from moored.huggingface.safeguards.guarded_logits import SalientHead, guarded_positions

FAMILIES = ["llama", "qwen2", "gemma", "gemma2", "cohere", "phi"]
"""Untied, tied, soft-capped, scaled and biased heads."""
UNCAPPED = [family for family in FAMILIES if family != "gemma2"]
TOKENS = (300, 7, 12, 383, 0)


def _model(family: str) -> Any:
    model = make(family).eval()
    if model.lm_head.bias is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    return model


def _hidden(model: Any) -> Tensor:
    return model.base_model(input_ids=padded(rows())["input_ids"]).last_hidden_state.detach()


def _own(model: Any, hidden: Tensor) -> Tensor:
    """All logits, by the model's own forward pass from its last hidden state on."""
    handle = model.base_model.register_forward_hook(lambda *call: call[-1].__setitem__("last_hidden_state", hidden))
    try:
        return model(input_ids=torch.zeros(hidden.shape[:2], dtype=torch.long)).logits.float().flatten(0, 1)
    finally:
        handle.remove()


def _expected(model: Any, hidden: Tensor, tokens: Any, centred: bool = False) -> Tensor:
    logits = _own(model, hidden)
    logits = logits - logits.mean(1, keepdim=True) if centred else logits
    return logits if tokens is None else logits[:, list(tokens)]


@pytest.mark.parametrize("tokens", [TOKENS, None], ids=["some", "all"])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_model(family: str, tokens: Any):
    model = _model(family).requires_grad_(False)
    hidden = _hidden(model)
    found = SalientHead(model, tokens).logits(hidden.flatten(0, 1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, _expected(model, hidden, tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", UNCAPPED)
def test_centred_logits(family: str):
    model = _model(family).requires_grad_(False)
    hidden = _hidden(model)
    found = SalientHead(model, TOKENS, centred=True).logits(hidden.flatten(0, 1))
    torch.testing.assert_close(found, _expected(model, hidden, TOKENS, centred=True), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "frozen"])
@pytest.mark.parametrize(
    ("family", "centred"), [*((each, False) for each in FAMILIES), *((each, True) for each in UNCAPPED)]
)
def test_gradients_are_those_through_all_logits(family: str, trained: bool, centred: bool):
    model = _model(family).requires_grad_(False)
    head = model.lm_head.requires_grad_(trained)
    hidden = _hidden(model).requires_grad_()
    wanted = [hidden, *head.parameters()] if trained else [hidden]
    draw = torch.randn(hidden.shape[0] * hidden.shape[1], len(TOKENS))

    found = SalientHead(model, TOKENS, centred=centred).logits(hidden.flatten(0, 1))
    ours = torch.autograd.grad((found * draw).sum(), wanted)
    theirs = torch.autograd.grad((_expected(model, hidden, TOKENS, centred) * draw).sum(), wanted)
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-4, atol=1e-5 * float(their.abs().max()))


def test_a_trained_head_is_read_anew():
    model = _model("llama")
    head, hidden = SalientHead(model, TOKENS), _hidden(model)
    before = head.logits(hidden.flatten(0, 1))
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    torch.testing.assert_close(head.logits(hidden.flatten(0, 1)), 2 * before)


def test_a_copy_of_the_head_that_peft_trains_is_the_one_that_is_read():
    model = get_peft_model(_model("llama"), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]))
    hidden = _hidden(model.get_base_model())
    head = SalientHead(model, TOKENS)
    with torch.no_grad():
        model.get_base_model().lm_head.modules_to_save["default"].weight.mul_(3)
    found = head.logits(hidden.flatten(0, 1))
    assert found.requires_grad
    torch.testing.assert_close(found, _expected(model.get_base_model(), hidden, TOKENS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_are_taken_in_the_precision_of_autocast(family: str):
    model = _model(family).requires_grad_(False)
    hidden, head = _hidden(model), SalientHead(model, TOKENS)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = head.logits(hidden.flatten(0, 1)), _expected(model, hidden, TOKENS)
        assert head.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.01)
    assert not torch.allclose(found, head.logits(hidden.flatten(0, 1)), rtol=1e-5)


def test_weights_in_bf16():
    model = _model("qwen2").to(torch.bfloat16)
    hidden = _hidden(model)
    found = SalientHead(model, TOKENS).logits(hidden.flatten(0, 1))
    assert found.dtype == torch.float32
    assert torch.equal(found, _expected(model, hidden, TOKENS))


def test_no_position_is_no_error():
    model = _model("llama")
    found = SalientHead(model, TOKENS).logits(torch.zeros(0, 16, requires_grad=True))
    assert found.shape == (0, 5) and found.requires_grad


@pytest.mark.parametrize("token", [-1, 384])
def test_a_token_that_is_not_there(token: int):
    with pytest.raises(InputError, match=f"384 tokens and none with the id {token}"):
        SalientHead(_model("llama"), [3, token])


def test_centred_logits_under_a_soft_cap():
    with pytest.raises(InputError, match="Gemma2ForCausalLM caps its logits"):
        SalientHead(_model("gemma2"), TOKENS, centred=True)


@pytest.mark.filterwarnings("ignore")
def test_lora_on_the_head():
    model = get_peft_model(_model("llama"), lora_config("llama", target_modules=["lm_head"]))
    with pytest.raises(ModelError, match=r"output head of LlamaForCausalLM is no plain linear layer, .* safety tokens"):
        SalientHead(model, TOKENS)


_ANSWERS = [
    # Per document: which of its tokens are supervised.
    [0, 0, 1, 1, 1, 1],
    [0, 1, 1, 0, 0, 1, 1, 1],
    [1, 1, 1, 1],
    [0, 0, 0],
    [1],
    [0, 1],
]


def _batch(arrangement: str) -> dict[str, Tensor]:
    ids = torch.arange(100)
    samples = [(ids[: len(each)], torch.where(torch.tensor(each) > 0, 5, -100)) for each in _ANSWERS]
    return padded(samples, left=arrangement == "left") if arrangement != "packed" else packed(samples)


def _plain(first: int | None) -> list[list[bool]]:
    """Document by document, token by token."""
    found = []
    for supervised in _ANSWERS:
        guarded, run = [], 0
        for learned in supervised[1:]:
            run = run + 1 if learned else 0
            guarded.append(bool(learned) and (first is None or run <= first))
        found.append([*guarded, False])
    return found


@pytest.mark.parametrize("first", [None, 1, 2, 3, 9])
@pytest.mark.parametrize("arrangement", ["right", "left", "packed"])
def test_guarded_positions(arrangement: str, first: int | None):
    batch = _batch(arrangement)
    guarded = guarded_positions(batch, first)
    assert guarded.shape == batch["input_ids"].shape and guarded.dtype == torch.bool
    if arrangement == "packed":
        assert guarded[0].tolist() == [each for document in _plain(first) for each in document]
        return
    for row, mask, expected in zip(guarded, batch["attention_mask"].bool(), _plain(first), strict=True):
        assert row[mask].tolist() == expected and not row[~mask].any()


def test_several_rows_of_packed_documents():
    batch = _batch("packed")
    twice = {key: torch.cat([value, value]) for key, value in batch.items()}
    assert guarded_positions(twice, 2).tolist() == 2 * guarded_positions(batch, 2).tolist()
