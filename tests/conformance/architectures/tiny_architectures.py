"""A tiny random model of every causal architecture of transformers: its configuration, with every size made small."""

import json
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

_TEXT: dict[str, Any] = json.loads(
    """{
    "vocab_size": 384, "vocab_size_per_layer_input": 384, "unpadded_vocab_size": 384, "decoder_vocab_size": 384,
    "pad_token_id": 0, "bos_token_id": null, "eos_token_id": 2, "initializer_range": 0.15,
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "embedding_size": 32, "embedding_dim": 32, "emb_dim": 32,
    "word_embed_proj_dim": 32, "attention_hidden_size": 32, "lru_width": 32, "input_embedding_size": 32,
    "output_embedding_size": 32, "hidden_size_per_layer_input": 8,
    "intermediate_size": 48, "n_inner": 48, "ffn_dim": 48, "dff": 48, "dim_ff": 48, "d_inner": 48,
    "ffn_hidden_size": 48, "dense_intermediate_size": 48, "intermediate_size_mlp": 48, "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "n_layer": 2, "n_layers": 2, "num_layers": 2, "num_blocks": 2, "decoder_layers": 2, "encoder_layers": 2,
    "num_encoder_layers": 2, "num_decoder_layers": 2,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4, "index_n_heads": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_encoder_attention_heads": 4,
    "num_decoder_attention_heads": 4, "swa_num_attention_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "num_query_groups": 2, "swa_num_key_value_heads": 2,
    "head_dim": 8, "dim_head": 8, "d_head": 8, "kv_channels": 8, "attention_head_dim": 8, "swa_head_dim": 8,
    "index_head_dim": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "qk_head_dim": 16,
    "kv_lora_rank": 16, "q_lora_rank": 16, "o_lora_rank": 16, "o_groups": 2, "hc_lowrank": 4, "gated_norm_rank": 4,
    "laurel_rank": 4, "adapter_rank": 4, "rotary_dim": 4, "query_pre_attn_scalar": 8, "d_rel": 4, "rel_extent": 16,
    "max_position_embeddings": 640, "n_positions": 640, "n_ctx": 640, "max_seq_len": 640, "context_length": 640,
    "max_source_positions": 640, "max_target_positions": 640, "model_max_length": 640,
    "sliding_window": 9, "sliding_window_size": 9, "window_size": 9, "attention_window_size": 9, "local_attention": 8,
    "keep_window_size": 9, "attention_chunk_size": 9, "index_topk": 640, "index_block_size": 4, "index_topk_blocks": 2,
    "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4, "moe_num_experts": 4, "zero_expert_num": 2,
    "num_experts_per_tok": 2, "num_experts_per_token": 2, "moe_topk": 2, "moe_k": 2, "n_shared_experts": 1,
    "topk_group": 1, "n_group": 1, "num_expert_group": 1, "first_k_dense_replace": 1, "router_hidden_size": 16,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "shared_experts_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "expert_ffn_hidden_size": 16,
    "moe_latent_size": null, "num_nextn_predict_layers": 0, "mtp_num_hidden_layers": 0, "num_kv_shared_layers": 0,
    "linear_conv_kernel_dim": 4, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_num_heads": 4,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_head_dim": 8, "conv1d_width": 4, "conv_kernel": 4,
    "mamba_d_state": 8, "mamba_d_conv": 4, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_chunk_size": 8,
    "mamba_n_groups": 1, "mamba_dt_rank": 8, "mamba_d_ssm": 64, "mamba_headdim": 16, "mamba_num_heads": 4,
    "mamba_head_dim": 16, "n_mamba_heads": 4, "n_groups": 1, "state_size": 8, "ssm_state_size": 8,
    "time_step_rank": 4, "chunk_size": 8, "block_multiple_of": 8, "hc_mult": 2, "hc_count": 2, "hc_sinkhorn_iters": 3,
    "dim_model_base": 16, "scale_emb": 2, "embedding_multiplier": 1.3, "residual_multiplier": 0.8,
    "attention_multiplier": 0.3, "logits_scaling": 1.7, "logit_scale": 0.6, "lm_head_multiplier": 0.7,
    "output_multiplier": 0.7, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 4.0
}"""
)
"""By the names that configurations have for sizes. Scales and caps of the logits are set away from 1 on purpose."""
_VISION: dict[str, Any] = {
    **_TEXT,
    **{
        "hidden_size": 16,
        "intermediate_size": 24,
        "embed_dim": 16,
        "num_hidden_layers": 1,
        "num_layers": 1,
        "depth": 1,
    },
    **{"num_attention_heads": 2, "num_heads": 2, "num_key_value_heads": 2, "mlp_ratio": 2, "depth": 1},
    **{
        "patch_size": 14,
        "image_size": 28,
        "out_hidden_size": 32,
        "vision_output_dim": 32,
        "projector_input_dim": 32,
        "window_size": 28,
    },
    **{"projector_input_dim": 32, "projector_output_dim": 32},
    **{"fullatt_block_indexes": [0], "deepstack_visual_indexes": [0]},
    **{"num_position_embeddings": 16, "default_output_length": 4, "position_embedding_size": 16},
}
_DECODERS = [
    "bert",
    "bert-generation",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "megatron-bert",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
]
"""Encoders that transformers builds as decoders where they are told to."""
_WIDE_START = [
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "marian",
    "mbart",
    "mvp",
    "pegasus",
    "plbart",
    "trocr",
    "whisper",
    "opt",
    "xglm",
]
"""Families that call the width of their initialization `init_std`."""
_MAMBA = ["linear_attention", "hybrid", "linear_attention"]
_ROPE = {"rope_type": "default", "rope_theta": 1e4}
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1], "num_hidden_layers": 2},
    "big_bird": {"attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "cohere": {"use_qk_norm": True},
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE},
    },
    "cwm": {"bos_token_id": 1, "rope_parameters": _ROPE},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "doge": {"sliding_window": 9},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "dots1": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "dots3_note_text": {"per_layer_config": {}},
    "emu3_text_model": {"bos_token_id": 1},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 2},
    "gemma2": {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 3.0},
    "gemma3_text": {"final_logit_softcapping": 2.0},
    "gemma3n_text": {
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "activation_sparsity_pattern": [0.9, 0.0],
    },
    "gemma4_text": {
        "num_hidden_layers": 2,
        "layer_types": ["sliding_attention", "full_attention"],
        "per_layer_config": {},
        "global_head_dim": 8,
    },
    "gemma4_unified_text": {"per_layer_config": {}, "global_head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"]},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
        "num_hidden_layers": 2,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "ministral": {"head_dim": 8},
    "mistral": {"sliding_window": 9},
    "mllama_text_model": {"bos_token_id": 1},
    "modernbert-decoder": {"bos_token_id": 1, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 16},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {"mlp_hidden_act": "relu2"},
    "opt": {"do_layer_norm_before": True},
    "phi": {"qk_layernorm": True, "num_key_value_heads": 4},
    "phi3": {"pad_token_id": 0, "sliding_window": 9},
    "qwen2": {
        "use_sliding_window": True,
        "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"],
    },
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 64,
        "split_ngram_parts": 1,
    },
    "recurrent_gemma": {"logits_soft_cap": 2.0, "num_hidden_layers": 3, "w_init_variance_scale": 1.0},
    "reformer": {
        "is_decoder": True,
        "attn_layers": ["local", "local"],
        "axial_pos_embds": False,
        "hidden_size": 32,
        "feed_forward_size": 48,
        "attention_head_size": 8,
        "num_hidden_layers": 2,
    },
    "stablelm": {"use_qkv_bias": True, "use_parallel_residual": True, "qk_layernorm": True},
    "starcoder2": {"sliding_window": 9},
    "xglm": {"num_layers": 2},
    "xlstm": {"hidden_size": 256, "embedding_dim": 256, "num_heads": 2},  # Narrower heads are wider than their cache.
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "use_mamba_kernels": False,
        "num_hidden_layers": 3,
        "layers_block_type": _MAMBA,
        "n_mamba_heads": 2,
    },
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 16,
        "n_mamba_heads": 4,
        "mamba_d_state": 8,
        "num_hidden_layers": 3,
        "layers_block_type": _MAMBA,
        "hybrid_layer_ids": [1],
        "use_mamba_kernels": False,
        "num_query_groups": 4,
        "kv_channels": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""What a family needs to fit together."""


def _own(model_type: str) -> dict[str, Any]:
    own = {"is_decoder": True} if model_type in _DECODERS else {}
    own |= {"init_std": 0.15} if model_type in _WIDE_START else {}
    return own | _OWN.get(model_type, {})


def tiny_settings(kind: Any, *, vision: bool = False) -> dict[str, Any]:
    """Shrinks whatever sizes a configuration class has, in its parts for text and images, too."""
    default, sizes = kind().to_dict(), _VISION if vision else _TEXT
    settings = {key: sizes[key] for key, value in default.items() if key in sizes and _is_size(key, value, sizes[key])}
    settings |= {key: 0.0 for key, value in default.items() if isinstance(value, float) and _is_dropout(key)}
    if default.get("num_attention_heads") == default.get("num_key_value_heads") and "num_key_value_heads" in settings:
        settings["num_key_value_heads"] = settings.get("num_attention_heads", 4)
    if "num_hidden_layers" in default:
        settings |= _layers(default, vision=vision)
    for part, part_kind in (getattr(kind, "sub_configs", None) or {}).items():
        settings |= _part(part, part_kind, default.get(part))
    return settings if vision else settings | _own(kind.model_type)


def _is_size(key: str, value: Any, size: Any) -> bool:
    is_list = isinstance(value, list | tuple) and not isinstance(size, list) and key != "eos_token_id"
    return not is_list and (value is not None or key in ("pad_token_id", "bos_token_id", "eos_token_id"))


def _is_dropout(key: str) -> bool:
    return any(word in key for word in ("dropout", "pdrop", "layerdrop", "jitter"))


def _layers(default: dict[str, Any], *, vision: bool) -> dict[str, Any]:
    """One layer of each kind, and two at least."""
    if vision:
        return {"num_hidden_layers": 1}
    kinds = {key: [*dict.fromkeys(default.get(key) or [])] for key in ("layer_types", "layers_block_type")}
    count = max(2, *map(len, kinds.values()))
    kinds["mlp_layer_types"] = [*dict.fromkeys(default.get("mlp_layer_types") or [])]
    repeated = {key: (values * count)[:count] for key, values in kinds.items() if values}
    return {"num_hidden_layers": count, **repeated}


def _part(part: str, kind: Any, default: Any) -> dict[str, Any]:
    if part == "quantization_config" or not isinstance(default, dict):
        return {}
    kind = CONFIG_MAPPING[default["model_type"]] if default.get("model_type") in CONFIG_MAPPING else kind
    if not hasattr(kind, "sub_configs") or kind.__name__ == "AutoConfig":
        return {}
    is_text = part in ("text_config", "decoder", "llm_config")
    return {part: {**tiny_settings(kind, vision=not is_text), "model_type": kind.model_type}}


def tiny_config(model_type: str, **settings: Any) -> Any:
    """The configuration of an architecture with every size made small."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**{**tiny_settings(kind), **settings})


def tiny_architecture(model_type: str, *, seed: int = 0, auto: Any = AutoModelForCausalLM) -> PreTrainedModel:
    """A random model of an architecture in fp32 and eval mode, with no norm or bias at its initial value."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto.from_config(tiny_config(model_type), dtype=torch.float32)
    draw = torch.Generator().manual_seed(seed + 1)
    for parameter in model.parameters():
        noise = 0.1 * torch.randn(parameter.shape, generator=draw)
        if not parameter.isfinite().all() or not parameter.any():
            parameter.data = noise
        elif parameter.ndim == 1:
            parameter.data += noise
    return model.eval()


_TOO_LARGE = {
    "blt": "it hashes groups of bytes",
    "dots3_note": "its widths depend on one another",
    "dots3_note_text": "its widths depend on one another",
    "gemma3n": "its images need timm",
    "gemma4_assistant": "it answers beside another model",
    "gemma4_unified_assistant": "it answers beside another model",
    "musicgen": "it writes music",
    "musicgen_melody": "it writes music",
    "reformer": "it reads texts of fixed lengths",
    "zamba": "transformers 5.23 cannot tie its shared layers in so few",
}
"""Architectures that are not tried, and why."""


def architectures() -> list[str]:
    """The causal architectures of the installed transformers that are tried."""
    return sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES} - {*_TOO_LARGE})
