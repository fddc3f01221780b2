"""The configurations of an adapter that do not fit its tensors, or that PEFT would read wrong."""

import pytest
from tests.conformance.adapters.edits import changed, refusal, same, without
from tests.conformance.adapters.kinds import refused

REFUSED = [
    refusal(
        "target_modules names more than the file",
        same,
        changed(target_modules=["q_proj", "v_proj", "down_proj", "o_proj"]),
        "lacks 4 of the tensors",
    ),
    refusal(
        "target_modules null",
        same,
        changed(target_modules=None),
        r"holds tensors of model\.layers\.0\.mlp\.down_proj",
        fast=True,
    ),
    refusal("target_modules empty", same, changed(target_modules=[]), "PEFT cannot apply the adapter"),
    refusal(
        "target_modules a regular expression that misses some",
        same,
        changed(target_modules=r".*\.q_proj"),
        "holds tensors of",
    ),
    refusal(
        "target_modules of another family",
        same,
        changed(target_modules=["c_attn"]),
        "is for another base: Target modules",
    ),
    refusal(
        "exclude_modules that leaves out what the file holds",
        same,
        changed(exclude_modules=["v_proj"]),
        "holds tensors of",
    ),
    refusal(
        "layers_to_transform that leaves out what the file holds",
        same,
        changed(layers_to_transform=[0]),
        r"holds tensors of model\.layers\.1",
    ),
    refusal("tokens beyond the vocabulary", same, changed(trainable_token_indices=[5, 390]), "The adapter|PEFT cannot"),
    refusal(
        "a rank that the file does not have", same, changed(r=4), r"has the rank 2, but its adapter_config\.json says 4"
    ),
    refusal(
        "a rank_pattern that the file does not have",
        same,
        changed(rank_pattern={"q_proj": 5}),
        "has the rank 2, but its .* says 5",
    ),
    refusal("r as text", same, changed(r="8"), r'^r in .*adapter_config\.json is "8", but must be a number'),
    refusal("r of 0", same, changed(r=0), "PEFT cannot apply the adapter .*positive integer"),
    refusal("r negative", same, changed(r=-2), "PEFT cannot apply the adapter .*positive integer"),
    refusal(
        "lora_alpha null", same, changed(lora_alpha=None), "^lora_alpha in .* is null, but must be a number", fast=True
    ),
    refusal("lora_alpha as text", same, changed(lora_alpha="16"), '^lora_alpha in .* is "16", but must be a number'),
    refusal(
        "use_rslora as text", same, changed(use_rslora="no"), '^use_rslora in .* is "no", but must be true or false'
    ),
    refusal("rank_pattern as a list", same, changed(rank_pattern=["q_proj"]), "^rank_pattern in .*, but must be"),
    refusal(
        "peft_type unknown",
        same,
        changed(peft_type="MAGIC"),
        "names the peft_type MAGIC, which PEFT .* does not know",
        fast=True,
    ),
    refusal("peft_type missing", same, without("peft_type"), "names no peft_type"),
    refusal("an empty configuration", same, lambda _: {}, "names no peft_type"),
    refusal("a configuration that is a list", same, lambda _: [], "is not a JSON object"),
    refusal("a configuration that is a text", same, lambda _: "lora", "is not a JSON object"),
    refusal("initialized by corda", same, changed(init_lora_weights="corda"), "was initialized by corda"),
    refusal(
        "initialized by loftq",
        same,
        changed(init_lora_weights="loftq", loftq_config={"loftq_bits": 4}),
        "was initialized by loftq",
    ),
    refusal("an initialization that PEFT does not know", same, changed(init_lora_weights="magic"), "magic"),
    refusal(
        "AdapterHub's configuration",
        same,
        lambda _: {"model_class": "LlamaForCausalLM"},
        "is an adapter of AdapterHub, not of PEFT",
    ),
]


@pytest.mark.parametrize(("tensors", "config", "match"), REFUSED)
def test_a_configuration_that_would_be_read_wrong_is_refused(shelf, tmp_path, adapter, tensors, config, match):
    refused(shelf.variant(adapter, tmp_path / "adapter", tensors=tensors, config=config), match, tmp_path)
