"""Every other method of PEFT: what folds is measured and repaired by example, what changes no weights is refused."""

import peft
import pytest
from tests.conformance.adapters.kinds import IDS, TARGETS, Ways, lora, not_by_formula, quietly, refused
from tests.conformance.cases import case

_QO = ["q_proj", "o_proj"]


def _made(name, **settings):
    return lambda: getattr(peft, name)(**{"target_modules": TARGETS, "task_type": "CAUSAL_LM", **settings})


def _kind(kind, name, base="llama", fast=False, **settings):
    return not_by_formula(
        kind, base, _made(name, **settings), match=r"is more than a plain LoRA \([A-Z0-9_]+\)", fast=fast
    )


_VB = {"num_vectors": 12, "vector_length": 4, "r": 2, "topk": 2}
TYPES = [
    _kind("LoHa", "LoHaConfig", r=2, alpha=4),
    _kind("LoHa on lm_head, tied", "LoHaConfig", base="tied llama", r=2, alpha=4, target_modules=["lm_head", "q_proj"]),
    _kind("LoKr", "LoKrConfig", r=2, alpha=4),
    _kind("AdaLoRA", "AdaLoraConfig", init_r=3, target_r=2, total_step=100),
    _kind("IA3", "IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    _kind("IA3, GPT-2", "IA3Config", base="gpt2", target_modules=["c_attn"], feedforward_modules=[]),
    _kind("OFT", "OFTConfig", r=0, oft_block_size=4),
    _kind("BOFT", "BOFTConfig", boft_block_size=4, target_modules=["q_proj"], fast=True),
    _kind("VeRA", "VeraConfig", r=4, target_modules=_QO),
    _kind("VeRA without its projection", "VeraConfig", r=4, target_modules=_QO, save_projection=False),
    _kind("PVeRA", "PveraConfig", r=4, target_modules=_QO),
    _kind("FourierFT", "FourierFTConfig", n_frequency=10),
    _kind("MiSS", "MissConfig", r=4),
    _kind("RandLoRA", "RandLoraConfig", r=4, target_modules=_QO, fast=True),
    _kind("SHiRA", "ShiraConfig", r=2),
    _kind("VB-LoRA", "VBLoRAConfig", **_VB, save_only_topk_weights=False),
    _kind("C3A", "C3AConfig", block_size=8, target_modules=_QO),
    _kind("HRA", "HRAConfig", r=2),
    _kind("LN tuning", "LNTuningConfig", target_modules=None),
    _kind(
        "trainable tokens, tied ends",
        "TrainableTokensConfig",
        base="tied llama",
        target_modules=None,
        token_indices=[5, 7],
    ),
    _kind("RoAd", "RoadConfig", group_size=4, target_modules=_QO),
    _kind("DeLoRA", "DeloraConfig", r=2),
    _kind("WaveFT", "WaveFTConfig", n_frequency=10),
    _kind("GraLoRA", "GraloraConfig", r=4, gralora_k=2, target_modules=_QO),
    _kind("OSF", "OSFConfig", target_modules=_QO),
    _kind("HiRA", "HiraConfig", r=2),
    _kind("DEFT", "DeftConfig", r=2),
    _kind("FRoD", "FrodConfig", target_modules=_QO),
    _kind("GLoRA", "GloraConfig", r=2),
    _kind("PEANuT", "PeanutConfig", r=2),
    _kind("PSOFT", "PsoftConfig", r=2),
    _kind("Supertuning", "SupertuningConfig"),
    _kind("TinyLoRA", "TinyLoraConfig", r=2, u=4),
    _kind("Uni-LoRA", "UniLoraConfig", r=2, theta_d_length=32),
]


@pytest.mark.parametrize(("base", "config", "formula"), TYPES)
def test_a_method_that_changes_weights_reads_as_it_was_trained(shelf, tmp_path, monkeypatch, base, config, formula):
    Ways(shelf.train(base, config), tmp_path).all(formula, monkeypatch)


@pytest.mark.parametrize(
    "config",
    [
        case(
            "VB-LoRA, its best vectors alone",
            _made("VBLoRAConfig", **_VB, save_only_topk_weights=True),
            outcome="limited",
            note="measure alone: what PEFT saves cannot be trained on",
        ),
        case(
            "trainable tokens that no prompt holds",
            _made("TrainableTokensConfig", target_modules=None, token_indices=IDS[0, :2].tolist()),
            outcome="limited",
            note="measure alone: an example without these tokens has no gradient",
        ),
    ],
)
def test_a_method_that_can_only_be_measured(shelf, tmp_path, config):
    with quietly():
        Ways(shelf.train("llama", config), tmp_path).load()


_NO_WEIGHTS = "which is no change of its base's weights; moored reads only adapters that can be folded"


def _without_targets(name, **settings):
    return lambda: getattr(peft, name)(**{"task_type": "CAUSAL_LM", **settings})


_PROMPT = {"num_virtual_tokens": 4}
_CPT = {"cpt_token_ids": [5, 6, 7], "cpt_mask": [1, 1, 1], "cpt_tokens_type_mask": [1, 2, 2]}
NOT_WEIGHTS = [
    case("prompt tuning", _without_targets("PromptTuningConfig", **_PROMPT), _NO_WEIGHTS, outcome="refused", fast=True),
    case("prefix tuning", _without_targets("PrefixTuningConfig", **_PROMPT), _NO_WEIGHTS, outcome="refused"),
    case(
        "P-tuning",
        _without_targets("PromptEncoderConfig", **_PROMPT, encoder_hidden_size=16),
        _NO_WEIGHTS,
        outcome="refused",
    ),
    case("Cartridge", _without_targets("CartridgeConfig", **_PROMPT), _NO_WEIGHTS, outcome="refused"),
    case("CPT", _without_targets("CPTConfig", **_CPT), _NO_WEIGHTS, outcome="refused"),
    case(
        "LLaMA-Adapter",
        _without_targets("AdaptionPromptConfig", adapter_len=4, adapter_layers=2),
        _NO_WEIGHTS,
        outcome="refused",
        fast=True,
    ),
    case("Lily", _made("LilyConfig", r=2), r"PEFT cannot fold the adapter .*Lily\)", outcome="refused", fast=True),
    case(
        "BEFT on layers without a bias",
        _made("BeftConfig", target_modules=["q_proj"]),
        r"PEFT cannot fold the adapter .* \(Base layer has no bias",
        outcome="refused",
    ),
]


@pytest.mark.parametrize(("config", "match"), NOT_WEIGHTS)
def test_a_method_that_cannot_be_folded_is_refused(shelf, tmp_path, config, match):
    refused(shelf.train("llama", config), match, tmp_path)


@pytest.mark.parametrize("peft_type", [case("X-LoRA", "XLORA", outcome="refused", fast=True)])
def test_a_mixture_of_adapters_is_refused(shelf, tmp_path, peft_type):
    plain_lora = shelf.train("llama", lora())
    mixed = {"peft_type": peft_type, "hidden_size": 16, "adapters": {"0": str(plain_lora.adapter)}}
    trained = shelf.variant(plain_lora, tmp_path / "mixed", config=lambda _: mixed)
    refused(trained, f"chooses a new mix of adapters for each token, {_NO_WEIGHTS}", tmp_path)
