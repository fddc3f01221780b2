import pytest
import torch
from tests.tiny import KINDS, save_tiny, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_tiny_model_comes_back_the_same(tmp_path, kind):
    folder = save_tiny(tmp_path / kind, kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(loaded(ids).logits, tiny_model(kind)(ids).logits)


def test_the_kinds_differ_where_the_architectures_do():
    llama, qwen2, gemma = (tiny_model(kind) for kind in KINDS)
    assert not llama.config.tie_word_embeddings and gemma.config.tie_word_embeddings
    assert qwen2.model.layers[0].self_attn.q_proj.bias is not None


def test_the_tokenizer_gives_text_back():
    text = "<|im_start|>user\nÀ propos?<|im_end|>\n"
    assert tiny_tokenizer().decode(tiny_tokenizer()(text).input_ids) == text
