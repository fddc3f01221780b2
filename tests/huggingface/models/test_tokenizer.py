import json

import pytest
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_tokenizer

from moored.errors import ModelError
from moored.huggingface.models import ModelSource, load_tokenizer, require_chat_template


@pytest.fixture
def model(tmp_path):
    return save_tiny(tmp_path / "model")


def test_a_folder_without_a_tokenizer_is_one_sentence(model):
    for file in model.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelError, match=r"put its tokenizer files there.*[^:. ]\.$"):
        load_tokenizer(ModelSource(str(model)))


def test_the_tokenizer_beside_the_adapter_counts(tmp_path, model):
    adapter = save_adapter(tmp_path / "adapter")
    assert load_tokenizer(ModelSource(str(model), adapter)).chat_template == tiny_tokenizer().chat_template
    tiny_tokenizer("{{ messages[0].content }}").save_pretrained(adapter)
    assert load_tokenizer(ModelSource(str(model), adapter)).chat_template == "{{ messages[0].content }}"


def test_a_tokenizer_without_padding_pads_with_its_end(model):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(model)
    assert load_tokenizer(ModelSource(str(model))).pad_token == "<|im_end|>"


def test_a_tokenizer_that_can_neither_pad_nor_end_is_refused(model):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(model)
    with pytest.raises(ModelError, match="names neither a padding nor an end token"):
        load_tokenizer(ModelSource(str(model)))


def test_a_tokenizer_that_cannot_render_a_chat_is_refused():
    require_chat_template(tiny_tokenizer(), "here")
    with pytest.raises(ModelError, match="tokenizer of here has no chat template"):
        require_chat_template(tiny_tokenizer(None), "here")


def test_whatever_the_libraries_say_of_a_broken_tokenizer_is_one_sentence(model):
    file = model / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": []}))
    with pytest.raises(ModelError, match=r"look at its tokenizer files\): Special token eos_token .*[^:. ]\.$"):
        load_tokenizer(ModelSource(str(model)))
