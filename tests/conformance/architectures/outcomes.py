"""What is expected of each architecture; whatever is not named here works."""

from collections.abc import Mapping
from typing import Any

from tests.conformance.architectures.tiny_architectures import architectures
from tests.conformance.cases import case

SEES_LATER_TOKENS = r"^In \w+ a token sees those after it"
NO_ANSWERS = dict.fromkeys(["cpmant", "prophetnet", "xlm", "xlnet"], SEES_LATER_TOKENS)
"""They are no causal language models, though transformers lists them."""
_UNKNOWN_HEAD = [
    "bert",
    "big_bird",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "gemma3",
    "inkling_text",
    "megatron-bert",
    "modernbert-decoder",
    "recurrent_gemma",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xlstm",
    "xmod",
]
_NO_LORA_NORMS = {"hrm_text": "uses it more than once", "phimoe": "draws random numbers in training mode"}
LORA_NORMS_REFUSED = {
    **dict.fromkeys(NO_ANSWERS, SEES_LATER_TOKENS),
    **dict.fromkeys(_UNKNOWN_HEAD, "computes its logits in an unknown way"),
    **_NO_LORA_NORMS,
}
_CONVOLUTIONS = [
    "bailing_hybrid",
    "bamba",
    "falcon_h1",
    "falcon_mamba",
    "granitemoehybrid",
    "inkling2_text",
    "jamba",
    "kimi_linear",
    "lfm2_moe",
    "lfm3",
    "mamba",
    "mamba2",
    "moss_transcribe_diarize",
    "nemotron_h",
    "olmo_hybrid",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
    "qwen4_exp",
    "qwen4_exp_text",
    "zamba2",
    "zaya",
    "phi4_multimodal",
]
_NO_FORMULA = [
    "apertus",
    "axk2",
    "beam",
    "dbrx",
    "deepseek_v32",
    "deepseek_v4",
    "diffllama",
    "ernie4_5_moe",
    "falcon",
    "flint",
    "gemma3n_text",
    "gemma4",
    "glm_moe_dsa",
    "gpt_neox_japanese",
    "gpt_oss",
    "granite_swa",
    "granitemoe_swa",
    "hrm_text",
    "hy_v4",
    "jetmoe",
    "llama4",
    "llama4_text",
    "longcat_flash",
    "mimo_v2_flash",
    "rwkv",
]
_NOT_REACHED = [
    "afmoe",
    "bart",
    "fuyu",
    "git",
    "got_ocr2",
    "laguna",
    "marian",
    "mbart",
    "mvp",
    "pegasus",
    "plbart",
    "trocr",
    "whisper",
]
_NOT_BY_ROW = ["bigbird_pegasus", "blenderbot", "blenderbot-small"]
NORMS_REFUSED = {
    **dict.fromkeys(_CONVOLUTIONS, "cannot be scored exactly"),
    **dict.fromkeys(_NO_FORMULA, "cannot be scored exactly|The loss does not reach"),
    **dict.fromkeys(_NOT_REACHED, "The loss does not reach|cannot be scored exactly"),
    **dict.fromkeys(_NOT_BY_ROW, "does not match the 3×"),
    **LORA_NORMS_REFUSED,
    "hrm_text": "cannot be scored exactly",
}
TEXT_PART_ALONE = dict.fromkeys(["emu3", "mllama"], "has no causal language model")
"""transformers reads their text part out of the whole checkpoint, and not out of a folder of its own."""


def cases(refused: Mapping[str, str], fast: tuple[str, ...] = (), limits: Mapping[str, str] | None = None) -> list[Any]:
    """A case for each architecture: its name and the sentence that refuses it, or None.

    Args:
        refused: the sentences by architecture.
        fast: the cases that run in `make test`, too.
        limits: what a user should know of architectures that work within a limit.
    """
    notes = limits or {}
    return [
        case(
            name,
            name,
            refused.get(name),
            outcome="refused" if name in refused else "limited" if name in notes else "works",
            note=notes.get(name, ""),
            fast=name in fast,
        )
        for name in architectures()
    ]
