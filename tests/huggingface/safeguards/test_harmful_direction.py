"""AsFT without a base, against the gradient of merged weights and dense projections."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.huggingface.training.fixtures import LORA, THIRD_PARTY_WARNINGS, make_trainer, token_rows, trained, weights
from tests.tiny import KINDS, tiny_model, tiny_tokenizer
from torch.nn.functional import cross_entropy

from moored import HarmfulDirection
from moored.errors import InputError
from moored.huggingface.safeguards.guarded_weights import LoraWeight, guarded_weights
from moored.huggingface.safeguards.harmful_steps import harmful_steps

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]

EXAMPLES = (("What is it?", "Sure, here is how"), ("Tell me.", "Sure."), ("How is the weather today?", "Here"))


def _steps(model):
    found = {}
    harmful_steps(model, guarded_weights(model), tiny_tokenizer(), EXAMPLES, found.__setitem__)
    return found


def _by_hand(model):
    """Minus the gradient of the whole weights, example by example; an opening ends without an end of turn."""
    tokenizer, total, count = tiny_tokenizer(), torch.zeros(()), 0
    for request, opening in EXAMPLES:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": request}], tokenize=False, add_generation_prompt=True
        )
        before, answer = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, opening))
        logits = model(torch.tensor([before + answer])).logits[0, len(before) - 1 : -1].float()
        total = total + cross_entropy(logits, torch.tensor(answer), reduction="sum")
        count += len(answer)
    names = [name for name, _ in model.named_parameters() if name.endswith("_proj.weight")]
    gradients = torch.autograd.grad(total / count, [dict(model.named_parameters())[name] for name in names])
    return {name.removesuffix(".weight"): -each for name, each in zip(names, gradients, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_are_the_gradients_of_the_openings(kind):
    expected = _by_hand(tiny_model(kind))
    found = _steps(tiny_model(kind, dropout=0.3).train())
    assert found.keys() == expected.keys() and len(found) == 14
    for name, step in found.items():
        torch.testing.assert_close(step, expected[name], rtol=1e-4, atol=1e-6)


def test_under_a_lora_they_are_those_of_the_merged_weights_and_nothing_is_left_behind():
    torch.manual_seed(0)
    model = get_peft_model(
        tiny_model(), LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    model.train()
    before = {name: (each.requires_grad, each.detach().clone()) for name, each in model.named_parameters()}
    random = torch.get_rng_state()
    found = _steps(model)
    assert torch.equal(random, torch.get_rng_state()) and model.training
    for name, parameter in model.named_parameters():
        assert parameter.grad is None and parameter.requires_grad == before[name][0]
        assert torch.equal(parameter, before[name][1])
    expected = _by_hand(model.merge_and_unload().requires_grad_(True))
    assert len(found) == 4
    for name, step in found.items():
        torch.testing.assert_close(step, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("lora", [LORA, None], ids=["lora", "full"])
def test_the_second_step_differs_by_the_gradient_of_the_dense_projection(tmp_path, lora):
    settings = {"rows": token_rows(8), "lora": lora, "per_device_train_batch_size": 4, "learning_rate": 0.05}
    penalty = HarmfulDirection(strength=20.0, examples=EXAMPLES, rank=2)
    torch.manual_seed(0)
    first, start = trained(tmp_path, max_steps=1, **settings)
    torch.manual_seed(0)
    plain, _ = trained(tmp_path, max_steps=2, **settings)
    torch.manual_seed(0)
    held, _ = trained(tmp_path, max_steps=2, safeguards=[penalty], **settings)
    steps, parameters = _by_hand(tiny_model()), dict(first.model.named_parameters())
    moved, seen = 0.0, 0
    for name, weight in weights(plain).items():
        found = weights(held)[name] - weight
        module = name.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".lora_A.default")
        if lora is None and module in steps:
            update, leaves = parameters[name] - start[name], [parameters[name]]
        elif "lora_A" in name:
            leaves = [parameters[name], parameters[name.replace("lora_A", "lora_B")]]
            update = leaves[1] @ leaves[0]
        else:
            continue
        u = torch.linalg.svd(steps[module]).U[:, :2]
        gradient = torch.autograd.grad((u @ u.T @ update).square().sum(), leaves)[0]
        torch.testing.assert_close(found, -0.05 * 20.0 * gradient, atol=2e-6, rtol=2e-3)
        moved, seen = max(moved, float(found.abs().max())), seen + 1
    assert moved > 2e-5 and seen == (14 if lora is None else 6)


def test_what_it_cannot_work_with_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="harmful_direction has no examples, or the trainer no processing_class"):
        make_trainer(tmp_path, rows=token_rows(4), safeguards=[HarmfulDirection()])
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"finds no direction for .*q_proj.*through"):
        # As where an expert is not asked, or the layer reads no text.
        patch.setattr("moored.huggingface.safeguards.guides.harmful_steps", lambda *_: None)
        make_trainer(tmp_path, rows=token_rows(4), safeguards=[HarmfulDirection(examples=EXAMPLES)])
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    for weight in guarded_weights(model):
        assert isinstance(weight, LoraWeight)
        layer = weight.layer.get_base_layer()
        layer.weight = torch.nn.Parameter(layer.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(InputError, match="is quantized and has no gradient"):
        _steps(model)


def test_it_says_how_much_it_shuns(tmp_path, capsys):
    trained(tmp_path, rows=token_rows(8), safeguards=[HarmfulDirection(examples=EXAMPLES, rank=2)], max_steps=2)
    assert "keeps updates off the 2 main directions of each weight's first step towards its " in capsys.readouterr().out
