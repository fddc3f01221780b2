import copy

import pytest
import torch
from peft import AdaLoraConfig, LoraConfig, get_peft_model
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.tiny import KINDS, SIZES, tiny_model
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from moored.errors import InputError
from moored.huggingface.safeguards.guarded_weights import guarded_weights
from moored.tensors.low_rank import squared_norm, whole

pytestmark = THIRD_PARTY_WARNINGS

TARGETS = ["q_proj", "v_proj", "down_proj"]


def _update(weight, *, scaled=True):
    return whole(weight.update(scaled=scaled))


def _merged(model):
    """The plain weights of a PEFT model, by name."""
    return dict(copy.deepcopy(model).merge_and_unload().named_parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh adapter", "continued adapter"])
def test_the_update_of_a_lora_is_the_change_of_the_merged_weights(kind, fresh):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_rslora=True, init_lora_weights=fresh)
    model = get_peft_model(tiny_model(kind), config)
    before, weights = _merged(model), guarded_weights(model)
    assert all(not _update(weight).any() for weight in weights)
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "lora_" in name:
                factor += 0.1 * torch.randn_like(factor)
    after = _merged(model)
    assert [weight.name.rpartition(".")[2] for weight in weights] == TARGETS * 2
    for weight in weights:
        name, update = f"{weight.name}.weight", _update(weight)
        torch.testing.assert_close(update, after[name] - before[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(_update(weight, scaled=False), update / (6 / 4**0.5), rtol=1e-4, atol=1e-5)
        assert update.requires_grad and update.any()


def test_without_lora_every_trained_linear_layer_is_held_but_the_head():
    model = tiny_model("qwen2")
    model.model.layers[0].self_attn.q_proj.weight.requires_grad_(False)
    weights = guarded_weights(model)
    names = {weight.name for weight in weights}
    assert len(names) == 13 and not names & {"lm_head", "model.layers.0.self_attn.q_proj"}
    weight = dict(model.named_parameters())["model.layers.1.mlp.up_proj.weight"]
    with torch.no_grad():
        weight += 0.5
    (update,) = [_update(each) for each in weights if each.name == "model.layers.1.mlp.up_proj"]
    torch.testing.assert_close(update, torch.full_like(weight, 0.5))


@pytest.mark.parametrize("kind", ["stacked experts", "in x out"])
def test_without_lora_every_matrix_inside_the_layers_is_held_as_out_by_in(kind):
    sizes = {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}
    if kind == "in x out":
        model, out, into = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2)), 48, 16
        name, rows = "transformer.h.0.attn.c_attn.weight", lambda tensor: tensor.T
    else:
        model, out, into = MixtralForCausalLM(MixtralConfig(**sizes)), 4 * 64, 16
        name, rows = "model.layers.0.mlp.experts.gate_up_proj", lambda tensor: tensor.flatten(0, 1)
    weights = guarded_weights(model)
    inside = {n for n, p in model.named_parameters() if ".0." in n and p.ndim > 1}
    assert {weight.stored for weight in weights if ".0." in weight.stored} == inside
    (weight,) = [each for each in weights if each.stored == name]
    before = weight.parameter.detach().clone()
    with torch.no_grad():
        weight.parameter.add_(torch.randn_like(weight.parameter))
    assert weight.below().shape == (out, into)
    torch.testing.assert_close(weight.update(scaled=False), rows(weight.parameter - before), rtol=1e-4, atol=1e-5)


def test_a_frozen_adapter_is_not_held():
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=TARGETS)).requires_grad_(False)
    assert not guarded_weights(model)


def test_several_adapters_move_a_weight_together():
    model = get_peft_model(tiny_model(), LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, init_lora_weights=False))
    model.add_adapter("second", LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"]))
    model.base_model.set_adapter(["default", "second"])
    before, weights = _merged(model), guarded_weights(model)
    assert [len(weight.factors) for weight in weights] == [2, 1, 1] * 2
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "lora_" in name:
                factor += 0.1 * torch.randn_like(factor)
    after = _merged(model)
    for weight in weights:
        name = f"{weight.name}.weight"
        torch.testing.assert_close(_update(weight), after[name] - before[name], rtol=1e-4, atol=1e-5)


def test_a_small_move_of_a_large_adapter_is_not_lost():
    """The two products BA and B₀A₀ nearly cancel: their difference in fp32 would be noise."""
    model = get_peft_model(tiny_model(), LoraConfig(r=4, target_modules=TARGETS, init_lora_weights=False))
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "lora_" in name:
                factor *= 100
    (weight, *_) = guarded_weights(model)
    a, b, start = weight.factors[0].a, weight.factors[0].b, weight.factors[0].start
    assert start is not None
    with torch.no_grad():
        b += 2.0**-14
        exact = ((b.double() - start.b) @ a.double()).norm()
        found = squared_norm(weight.update(scaled=False)).sqrt()
    assert float(found) == pytest.approx(float(exact), rel=1e-5)


def test_where_one_factor_alone_is_trained_the_product_is_held():
    """As in LoRA-FA, which freezes A."""
    model = get_peft_model(tiny_model(), LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, init_lora_weights=False))
    before = _merged(model)
    for name, factor in model.named_parameters():
        factor.requires_grad_("lora_B" in name)
    weights = guarded_weights(model)
    assert [weight.name.rpartition(".")[2] for weight in weights] == TARGETS * 2
    with torch.no_grad():
        for weight in weights:
            (b,) = weight.parameters
            b += 0.1
    after = _merged(model)
    for weight in weights:
        name = f"{weight.name}.weight"
        torch.testing.assert_close(_update(weight), after[name] - before[name], rtol=1e-4, atol=1e-5)


def test_a_frozen_adapter_below_the_trained_one_belongs_to_the_start():
    """As a safety adapter that a new one is laid over: what the model is aligned by."""
    model = get_peft_model(tiny_model(), LoraConfig(r=3, target_modules=TARGETS, init_lora_weights=False), "safety")
    expected = _merged(model)
    model.add_adapter("new", LoraConfig(r=2, target_modules=TARGETS))
    model.base_model.set_adapter(["safety", "new"])
    for name, factor in model.named_parameters():
        factor.requires_grad_(".new." in name)
    for weight in guarded_weights(model):
        below, start = weight.below(), weight.start()
        assert below is not None and start is not None and len(weight.parameters) == 2
        torch.testing.assert_close(below + start.whole(), expected[f"{weight.name}.weight"])


def test_an_adapter_that_is_no_product_of_two_matrices_is_refused():
    sizes = {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2}
    experts = LoraConfig(r=2, target_modules=["q_proj"], target_parameters=["mlp.experts.down_proj"])
    adaptive = AdaLoraConfig(target_modules=["q_proj"], total_step=10, init_r=4, target_r=2)
    for model, config in ((MixtralForCausalLM(MixtralConfig(**sizes)), experts), (tiny_model(), adaptive)):
        with pytest.raises(InputError, match="LoRA on linear layers, not with AdaLoRA"):
            guarded_weights(get_peft_model(model, config))


@pytest.mark.parametrize("kind", ["8-bit floats", "no weight"])
def test_a_quantized_weight_is_not_read(kind):
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=["q_proj"]))
    (weight, *_) = guarded_weights(model)
    layer = weight.layer.get_base_layer()
    if kind == "no weight":
        del layer.weight
    else:
        layer.weight = torch.nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)
    assert weight.below() is None


def test_dora_is_refused():
    with pytest.raises(InputError, match="DoRA"):
        guarded_weights(get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=TARGETS, use_dora=True)))
