"""LoRA as PEFT saves it: every setting, over separate and tied ends, matrices kept transposed, and stacked experts."""

import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora.config import (
    BdLoraConfig,
    EvaConfig,
    KasaConfig,
    LoraGAConfig,
    MontecloraConfig,
    VeloraConfig,
)
from peft.tuners.lora.loraga import preprocess_loraga
from tests.conformance.adapters.kinds import (
    IDS,
    Trained,
    Ways,
    logits_of,
    lora,
    not_by_formula,
    plain,
    quietly,
    refused,
    shake,
    works,
)
from tests.conformance.cases import case

_BLOCKS = {"target_modules_bd_a": ["q_proj", "v_proj"], "target_modules_bd_b": ["down_proj"], "nblocks": 2}
_EMBEDDING, _HEAD = ["embed_tokens", "q_proj"], ["lm_head", "q_proj"]
_BOTH = ["embed_tokens", "lm_head", "q_proj"]
_GATE_UP, _DOWN = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"

PLAIN = [
    works("plain LoRA", "llama", lora(), fast=True),
    works("LoRA with dropout", "llama", lora(lora_dropout=0.3)),
    works("rank-stabilized LoRA (rslora)", "llama", lora(use_rslora=True)),
    works(
        "LoRA with rank_pattern and alpha_pattern",
        "llama",
        lora(
            r=4,
            rank_pattern={"q_proj": 2, r"^model\.layers\.1\..*v_proj": 3},
            alpha_pattern={"v_proj": 32, r"layers\.0\..*down_proj": 1},
        ),
    ),
    works("rslora with patterns", "llama", lora(r=4, use_rslora=True, rank_pattern={"q_proj": 2})),
    works("LoRA on all linear layers", "llama", lora(target_modules="all-linear")),
    works("LoRA on all linear layers, Qwen2", "qwen2", lora(target_modules="all-linear")),
    works("LoRA on all linear layers, Gemma", "gemma", lora(target_modules="all-linear")),
    works("LoRA by a regular expression", "llama", lora(target_modules=r".*\.(q|up)_proj")),
    works("LoRA on some layers (layers_to_transform)", "llama", lora(layers_to_transform=[1])),
    works(
        "LoRA with exclude_modules",
        "llama",
        lora(target_modules="all-linear", exclude_modules=["o_proj", "gate_proj"]),
    ),
    works("LoRA of rank 1", "llama", lora(r=1)),
    works("LoRA wider than its matrices", "llama", lora(r=20)),
    works("LoRA, task_type none", "llama", lora(task_type=None)),
    works("LoRA initialized by gaussian", "llama", lora(init_lora_weights="gaussian")),
    works("LoRA initialized by orthogonal", "llama", lora(init_lora_weights="orthogonal")),
    works("LoRA initialized by eva", "llama", lora(init_lora_weights="eva", eva_config=EvaConfig(rho=1.0))),
    works("MiCA", "llama", lora(init_lora_weights="mica")),
    works("LoRA initialized at random (False)", "llama", lora(init_lora_weights=False)),
    works("LoRA on lm_head, Llama", "llama", lora(target_modules=_HEAD)),
    works("LoRA on Conv1D (GPT-2), fan_in_fan_out unset", "gpt2", lora(target_modules=["c_attn", "c_proj"]), fast=True),
    works(
        "LoRA on Conv1D (GPT-2), fan_in_fan_out set",
        "gpt2",
        lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    ),
    works("LoRA on square Conv1D (GPT-2)", "gpt2", lora(target_modules=["attn.c_proj"])),
    works("LoRA on a mixture of experts, attention alone", "mixtral", lora(target_modules=["q_proj", "v_proj"])),
    works("LoRA on all linear layers, gpt-oss", "gpt-oss", lora(target_modules="all-linear")),
]
MORE = [
    not_by_formula("DoRA", "llama", lora(use_dora=True)),
    not_by_formula("DoRA, tied ends", "tied llama", lora(use_dora=True, target_modules=_HEAD)),
    not_by_formula("lora_bias on layers without a bias", "llama", lora(lora_bias=True), fast=True),
    not_by_formula("lora_bias on layers with a bias", "qwen2", lora(lora_bias=True, target_modules=["q_proj"])),
    not_by_formula("LoRA with bias: all", "qwen2", lora(bias="all")),
    not_by_formula("LoRA with bias: lora_only", "qwen2", lora(bias="lora_only", target_modules=["q_proj", "v_proj"])),
    not_by_formula("LoRA with bias: all, GPT-2", "gpt2", lora(bias="all", target_modules=["c_attn"])),
    not_by_formula("VeLoRA", "llama", lora(velora_config=VeloraConfig())),
    not_by_formula("KaSA", "llama", lora(kasa_config=KasaConfig())),
    not_by_formula("MonteCLoRA", "llama", lora(monteclora_config=MontecloraConfig()), fast=True),
    not_by_formula("BD-LoRA", "llama", lora(r=4, use_bdlora=BdLoraConfig(**_BLOCKS)), fast=True),
    not_by_formula("QA-LoRA settings on plain weights", "llama", lora(use_qalora=True, qalora_group_size=4)),
    not_by_formula("LoRA initialized by pissa", "llama", lora(init_lora_weights="pissa"), fast=True),
    not_by_formula("LoRA initialized by olora", "llama", lora(init_lora_weights="olora")),
    not_by_formula("pissa, GPT-2", "gpt2", lora(init_lora_weights="pissa", target_modules=["c_fc"])),
]
ENDS = [
    works("LoRA on lm_head, tied Llama", "tied llama", lora(target_modules=_HEAD), fast=True),
    works("LoRA on lm_head, tied Gemma", "gemma", lora(target_modules=_HEAD)),
    works("LoRA on lm_head, tied GPT-2", "gpt2", lora(target_modules=["attn.c_proj", "lm_head"]), fast=True),
    not_by_formula("LoRA on embed_tokens", "llama", lora(target_modules=_EMBEDDING)),
    not_by_formula("LoRA on embed_tokens, tied", "tied llama", lora(target_modules=_EMBEDDING), fast=True),
    not_by_formula("LoRA on both ends", "llama", lora(target_modules=_BOTH)),
    not_by_formula("LoRA on both ends, tied", "tied llama", lora(target_modules=_BOTH), fast=True),
    not_by_formula("LoRA on both ends, tied Gemma", "gemma", lora(target_modules=_BOTH)),
    not_by_formula(
        "LoRA on both ends, ensure_weight_tying", "tied llama", lora(target_modules=_BOTH, ensure_weight_tying=True)
    ),
    not_by_formula("modules_to_save: lm_head", "llama", lora(modules_to_save=["lm_head"])),
    not_by_formula("modules_to_save: embed_tokens", "llama", lora(modules_to_save=["embed_tokens"])),
    not_by_formula("modules_to_save: both ends", "llama", lora(modules_to_save=["embed_tokens", "lm_head"])),
    not_by_formula("modules_to_save: lm_head, tied", "tied llama", lora(modules_to_save=["lm_head"])),
    not_by_formula("modules_to_save: embed_tokens, tied", "tied llama", lora(modules_to_save=["embed_tokens"])),
    not_by_formula("modules_to_save: both ends, tied", "tied llama", lora(modules_to_save=["embed_tokens", "lm_head"])),
    not_by_formula(
        "modules_to_save with ensure_weight_tying",
        "tied llama",
        lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
        fast=True,
    ),
    not_by_formula("modules_to_save: the last norm", "llama", lora(modules_to_save=["norm"])),
    not_by_formula("modules_to_save: norms within layers", "llama", lora(modules_to_save=["input_layernorm"])),
    not_by_formula("modules_to_save: the router", "mixtral", lora(modules_to_save=["gate"], target_modules=["q_proj"])),
    not_by_formula("trainable_token_indices", "llama", lora(trainable_token_indices=[5, 7])),
    not_by_formula("trainable_token_indices, tied", "tied llama", lora(trainable_token_indices=[5, 7])),
    not_by_formula(
        "trainable_token_indices of both ends",
        "llama",
        lora(trainable_token_indices={"embed_tokens": [5, 7], "lm_head": [6]}),
    ),
    not_by_formula(
        "trainable_token_indices with ensure_weight_tying",
        "tied llama",
        lora(trainable_token_indices=[5, 7], ensure_weight_tying=True),
    ),
]


def _experts(family, *parameters, **settings):
    return family, lora(target_parameters=list(parameters), **{"target_modules": ["q_proj"], **settings})


EXPERTS = [
    not_by_formula("experts: gate and up, Mixtral", *_experts("mixtral", _GATE_UP)),
    not_by_formula("experts: down, Mixtral", *_experts("mixtral", _DOWN)),
    not_by_formula("experts: both stacks, Mixtral", *_experts("mixtral", _GATE_UP, _DOWN)),
    not_by_formula("experts: the router as a parameter, Mixtral", *_experts("mixtral", "mlp.gate.weight")),
    not_by_formula("experts: gate and up, Qwen3-MoE", *_experts("qwen3 moe", _GATE_UP)),
    # With equal sizes, so that only the names tell the two stacks' factors apart.
    not_by_formula("experts: both stacks, Qwen3-MoE", *_experts("qwen3 moe", _GATE_UP, _DOWN), fast=True),
    not_by_formula("experts: both stacks and nothing else", *_experts("qwen3 moe", _GATE_UP, _DOWN, target_modules=[])),
    not_by_formula("experts: rslora", *_experts("qwen3 moe", _GATE_UP, _DOWN, use_rslora=True)),
    not_by_formula("experts: the router as a parameter, Qwen3-MoE", *_experts("qwen3 moe", "mlp.gate.weight")),
    not_by_formula("experts: gate and up, gpt-oss", *_experts("gpt-oss", _GATE_UP)),
    not_by_formula("experts: both stacks, gpt-oss", *_experts("gpt-oss", _GATE_UP, _DOWN), fast=True),
    not_by_formula("experts: the router as a parameter, gpt-oss", *_experts("gpt-oss", "mlp.router.weight")),
    not_by_formula("all-linear, Mixtral (as moored train makes it)", "mixtral", lora(target_modules="all-linear")),
    not_by_formula(
        "all-linear, Qwen3-MoE (as moored train makes it)", "qwen3 moe", lora(target_modules="all-linear"), fast=True
    ),
]


@pytest.mark.parametrize(("base", "config", "formula"), [*PLAIN, *MORE, *ENDS, *EXPERTS])
def test_a_lora_reads_as_it_was_trained(shelf, tmp_path, monkeypatch, base, config, formula):
    Ways(shelf.train(base, config), tmp_path).all(formula, monkeypatch)


def _by_gradients(model, config):
    preprocess_loraga(model, config, lambda: model(input_ids=IDS, labels=IDS).loss.backward())
    model.zero_grad()


@pytest.mark.parametrize(
    ("config", "prepare", "match"),
    [
        case(
            "LoRA initialized by pissa_niter",
            lora(init_lora_weights="pissa_niter_4"),
            None,
            "was initialized by pissa_niter_4, which PEFT cannot repeat",
            outcome="refused",
            fast=True,
        ),
        case(
            "LoRA initialized by lora_ga",
            lora(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig()),
            _by_gradients,
            "was initialized by lora_ga, which PEFT cannot repeat .* path_initial_model_for_weight_conversion",
            outcome="refused",
            fast=True,
        ),
        case(
            "aLoRA",
            lora(alora_invocation_tokens=[40, 41]),
            None,
            r"acts only after its invocation tokens \(aLoRA\), which is no change of its base's weights",
            outcome="refused",
            fast=True,
        ),
        case(
            "layer_replication",
            lora(layer_replication=[(0, 2), (1, 2)]),
            None,
            r"repeats layers of its base \(layer_replication\)",
            outcome="refused",
            fast=True,
        ),
    ],
)
def test_what_peft_cannot_restore_or_fold_is_refused(shelf, tmp_path, config, prepare, match):
    refused(shelf.train("llama", config, prepare=prepare), match, tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        case("pissa, converted when it was saved", "pissa", fast=True),
        case("pissa_niter, converted when it was saved", "pissa_niter_4"),
        case("olora, converted when it was saved", "olora"),
    ],
)
def test_a_conversion_back_to_the_base_is_a_plain_lora(shelf, tmp_path, monkeypatch, name):
    base = shelf.base("llama")
    with quietly():
        torch.manual_seed(1)
        model = get_peft_model(plain(base), lora(init_lora_weights=name)())
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(str(tmp_path / "initial"))
        model.peft_config["default"].init_lora_weights = name
        shake(model)
        model.save_pretrained(
            str(tmp_path / "adapter"), path_initial_model_for_weight_conversion=str(tmp_path / "initial")
        )
    trained = Trained(base=base, adapter=tmp_path / "adapter", logits=logits_of(model))
    Ways(trained, tmp_path).all(None, monkeypatch)
