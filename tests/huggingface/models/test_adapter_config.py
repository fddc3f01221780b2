"""A configuration that PEFT or a fold would get wrong is refused in one sentence that names the file and the place."""

import json

import pytest
from peft import PEFT_TYPE_TO_CONFIG_MAPPING
from tests.adapters import save_adapter

from moored.errors import ModelError
from moored.huggingface.models import adapter_base, read_adapter_config
from moored.huggingface.models.adapter_config import _require_types, load_adapter_config


@pytest.fixture
def adapter(tmp_path):
    return save_adapter(tmp_path / "adapter")


def _edit(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "is not a JSON object"),
        ('"text"', "is not a JSON object"),
        ('{"lora_parameters": {}}', "is an adapter of mlx-lm, not of PEFT; fuse it"),
        ('{"model_class": "LlamaForCausalLM"}', "is an adapter of AdapterHub, not of PEFT; merge it"),
    ],
)
def test_a_file_that_is_not_peft_s_is_named(tmp_path, content, match):
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=match):
        read_adapter_config(tmp_path)


@pytest.mark.parametrize(
    ("file", "match"),
    [
        ("notes.txt", r"holds no adapter_config\.json; name the folder that PEFT wrote\.$"),
        ("lora.gguf", "is a LoRA of llama.cpp, not of PEFT"),
        ("adapters.safetensors", r"is an adapter of mlx-lm without its adapter_config\.json"),
        ("one/adapter_config.json", r"holds no adapter_config\.json; name one of its folders \(one\)"),
    ],
)
def test_a_folder_without_a_configuration_says_what_it_is(tmp_path, file, match):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    with pytest.raises(ModelError, match=match):
        read_adapter_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"peft_type": None}, "names no peft_type"),
        ({"peft_type": "MAGIC"}, r"names the peft_type MAGIC, which PEFT [\d.]+ does not know; update PEFT"),
        ({"peft_type": ["LORA"]}, "names the peft_type"),
        ({"r": "8"}, r'^r in .*adapter_config\.json is "8", but must be a number'),
        ({"lora_alpha": None}, r"^lora_alpha in .*adapter_config\.json is null, but must be a number"),
        ({"lora_alpha": float("nan")}, "^lora_alpha in .* is NaN, but must be a number"),
        ({"target_modules": 5}, "^target_modules in .* is 5, but must be a list of names"),
        ({"rank_pattern": ["q_proj"]}, "^rank_pattern in .*, but must be a mapping"),
        ({"base_model_name_or_path": ["x"]}, "^base_model_name_or_path in .*, but must be a text"),
        ({"use_rslora": "yes"}, '^use_rslora in .* is "yes", but must be true or false'),
        ({"target_parameters": "experts"}, "PEFT cannot read .*`target_parameters` must be a list"),
        ({"init_lora_weights": "lora_ga"}, "was initialized by lora_ga, which PEFT cannot repeat"),
        ({"init_lora_weights": "pissa_niter_4"}, "was initialized by pissa_niter_4, "),
        ({"init_lora_weights": "corda"}, "was initialized by corda, "),
        ({"alora_invocation_tokens": [5]}, r"acts only after its invocation tokens \(aLoRA\), which is no change"),
        ({"layer_replication": [[0, 2], [1, 2]]}, r"repeats layers of its base \(layer_replication\)"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2}, "puts trained tokens before the prompt"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_read_right_is_refused(adapter, changes, match):
    load_adapter_config(adapter)
    _edit(adapter, **changes)
    with pytest.raises(ModelError, match=match):
        load_adapter_config(adapter)


def test_the_types_of_every_kind_of_adapter_are_known(tmp_path):
    """Their types are those that PEFT states, as far as Python can evaluate them."""
    for kind in PEFT_TYPE_TO_CONFIG_MAPPING.values():
        _require_types({}, kind, tmp_path)


def test_the_base_of_an_adapter_is_the_one_it_names(tmp_path):
    assert adapter_base(save_adapter(tmp_path / "adapter", base="org/base")) == "org/base"
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="names no base"):
        adapter_base(tmp_path / "adapter")
