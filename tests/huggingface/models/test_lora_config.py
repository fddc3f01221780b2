import pytest

from moored.errors import InputError
from moored.huggingface.models.lora_config import lora_config


def test_lora_defaults_and_any_field():
    assert (lora_config({}).r, lora_config({}).lora_alpha) == (16, 32)
    made = lora_config({"r": "8", "target_modules": ["q_proj"], "use_rslora": True})
    assert (made.r, made.target_modules, made.use_rslora) == (8, {"q_proj"}, True)
    with pytest.raises(InputError, match="did you mean lora_alpha"):
        lora_config({"lora_alfa": 1})
    with pytest.raises(InputError, match="lm_head"):
        lora_config({"target_modules": ["q_proj", "lm_head"]})
