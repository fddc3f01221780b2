import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS
from tests.tiny import KINDS, tiny_model

from moored.errors import InputError
from moored.huggingface.training.updates import guarded_updates

pytestmark = THIRD_PARTY_WARNINGS

TARGETS = ["q_proj", "v_proj", "down_proj"]


def _merged(model):
    """The plain weights of a PEFT model, by name."""
    return dict(copy.deepcopy(model).merge_and_unload().named_parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh adapter", "continued adapter"])
def test_the_update_of_a_lora_is_the_change_of_the_merged_weights(kind, fresh):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=TARGETS, use_rslora=True, init_lora_weights=fresh)
    model = get_peft_model(tiny_model(kind), config)
    before, updates = _merged(model), guarded_updates(model)
    assert all(not update().any() for update in updates)
    with torch.no_grad():
        for name, factor in model.named_parameters():
            if "lora_" in name:
                factor += 0.1 * torch.randn_like(factor)
    after = _merged(model)
    assert [update.name.rpartition(".")[2] for update in updates] == TARGETS * 2
    for update in updates:
        name = f"{update.name}.weight"
        torch.testing.assert_close(update(), after[name] - before[name], rtol=1e-4, atol=1e-5)
        assert update().requires_grad and update().any()


def test_without_lora_every_trained_linear_layer_is_held_but_the_head():
    model = tiny_model("qwen2")
    model.model.layers[0].self_attn.q_proj.weight.requires_grad_(False)
    updates = guarded_updates(model)
    names = {update.name for update in updates}
    assert len(names) == 13 and not names & {"lm_head", "model.layers.0.self_attn.q_proj"}
    weight = dict(model.named_parameters())["model.layers.1.mlp.up_proj.weight"]
    with torch.no_grad():
        weight += 0.5
    (update,) = [update() for update in updates if update.name == "model.layers.1.mlp.up_proj"]
    torch.testing.assert_close(update, torch.full_like(weight, 0.5))


def test_a_frozen_adapter_is_not_held():
    model = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=TARGETS)).requires_grad_(False)
    assert guarded_updates(model) == []


def test_dora_is_refused():
    with pytest.raises(InputError, match="DoRA"):
        guarded_updates(get_peft_model(tiny_model(), LoraConfig(r=2, target_modules=TARGETS, use_dora=True)))
