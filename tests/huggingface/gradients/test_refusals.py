"""What cannot be scored exactly raises, and names the parameter."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tests.huggingface.gradients.models import lora_config, make, packed, padded, rows
from torch import Tensor, nn

from moored.errors import InputError, ModelError
from moored.huggingface.gradients import score


def _refused(model: nn.Module, names: str, error: type[Exception] = InputError, batch: Any = None) -> str:
    with pytest.raises(error, match=names) as raised:
        score(model, padded(rows()) if batch is None else batch)
    message = str(raised.value)
    assert message.endswith(".") and "\n" not in message
    assert all(parameter.grad is None for parameter in model.parameters())
    return message


def test_nothing_trainable():
    _refused(make("llama").requires_grad_(False), "no trainable parameter")


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"use_dora": True}, "DoraLinear"),
        ({"alora_invocation_tokens": [5, 6], "task_type": "CAUSAL_LM"}, "ALoraLinear"),
        ({"init_lora_weights": "mica", "r": 2}, "MiCALinear"),
    ],
    ids=["dora", "alora", "mica"],
)
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_variants_of_lora(settings: dict[str, Any], kind: str, frozen: bool):
    """Frozen ones too, while something else is trained: aLoRA would still compute something else than in training."""
    model = get_peft_model(make("llama"), lora_config("llama", **{"lora_dropout": 0.0, **settings}))
    if frozen:
        model.requires_grad_(False)
        model.get_base_model().model.norm.weight.requires_grad_(True)
    _refused(model, rf"layers\.0\.self_attn\.q_proj computes by {kind}, a variant of LoRA")


def test_a_variant_that_is_not_active_is_no_matter():
    model = get_peft_model(make("llama"), lora_config("llama"))
    model.add_adapter("other", lora_config("llama", use_dora=True))
    model.set_adapter("default")
    assert score(model, padded(rows())).norms.all()


def test_lora_on_embeddings():
    settings = LoraConfig(r=4, target_modules=["embed_tokens"])
    _refused(get_peft_model(make("llama"), settings), r"embed_tokens\.lora_embedding_[AB]")


def test_lora_on_experts():
    settings = {"target_modules": None, "target_parameters": ["mlp.experts.down_proj"], "lora_dropout": 0.0}
    _refused(get_peft_model(make("mixtral"), lora_config("mixtral", **settings)), r"experts\S*\.lora_[AB]")


@pytest.mark.filterwarnings("ignore")
def test_lora_on_the_output_head():
    _refused(get_peft_model(make("llama"), LoraConfig(r=4, target_modules=["lm_head"])), "output head", ModelError)


class _Filtered(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.conv = inner, nn.Conv1d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.conv(x.mT).mT)


def test_a_weight_of_three_axes_that_is_no_expert():
    model = make("llama")
    model.model.layers[0].mlp = _Filtered(model.model.layers[0].mlp)
    _refused(model, r"layers\.0\.mlp\.conv\.weight .*Conv1d")


class _Multiplied(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.matrix = inner, nn.Parameter(torch.eye(16))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.einsum("btd,de->bte", x, self.matrix))


def test_a_layer_without_a_formula():
    model = make("llama")
    model.model.layers[0].mlp = _Multiplied(model.model.layers[0].mlp)
    _refused(model, r"layers\.0\.mlp\.matrix .*einsum")


class _Twice(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.inner(x))


def test_a_layer_that_runs_twice():
    model = make("llama")
    model.model.layers[1].mlp = _Twice(model.model.layers[1].mlp)
    _refused(model, r"layers\.1\.mlp\.inner\.\w+\.weight .*more than once")


class _Rows(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)
        return torch.cat([self.inner(flat[:5]), flat[5:]]).view_as(x)


def test_a_layer_that_sees_some_positions_only():
    model = make("llama")
    model.model.layers[0].mlp = _Rows(model.model.layers[0].mlp)
    _refused(model, r"mlp\.inner\.\w+\.weight .*5×\d+, which does not match the 4×12 positions")


class _Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, 2 * self.weight)


def test_a_weight_that_is_changed_before_it_is_used():
    model = make("llama")
    model.model.layers[0].mlp.up_proj = _Scaled(16, 32, bias=False)
    _refused(model, r"layers\.0\.mlp\.up_proj\.weight .*changes it")


class _Hidden(nn.Module):
    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.held = [inner.up_proj.weight]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + (x @ self.held[0].mT)[..., : x.shape[-1]]


def test_a_weight_that_is_read_past_its_module():
    model = make("llama")
    model.model.layers[0].mlp = _Hidden(model.model.layers[0].mlp)
    _refused(model, r"layers\.0\.mlp\.inner\.up_proj\.weight .*cannot be followed")


def test_a_parameter_that_the_loss_does_not_reach():
    model = make("llama")
    model.model.layers[0].unused = nn.Linear(4, 4)
    message = _refused(model, r"does not reach model\.layers\.0\.unused\.bias, model\.layers\.0\.unused\.weight")
    assert "more" not in message


def test_logits_of_an_unknown_kind():
    model = make("llama")
    plain = model.lm_head.forward
    model.lm_head.forward = lambda x: 3 * plain(x)
    _refused(model, "computes its logits", ModelError)


def test_logits_that_are_no_numbers():
    model = make("llama")
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    _refused(model, "logits of LlamaForCausalLM are not finite", ModelError)


def test_packed_documents_that_see_one_another():
    model = make("llama")
    plain = model.model.forward
    model.model.forward = lambda *, position_ids=None, **inputs: plain(**inputs)
    assert score(model, padded(rows())).norms.all()
    _refused(model, "see one another", ModelError, packed(rows()))
