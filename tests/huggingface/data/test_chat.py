import pytest
from tests.tiny import CHATML_WITH_SYSTEM, tiny_tokenizer

from moored.errors import ModelError
from moored.huggingface.data.chat import render_prompt, rendering_hash


def test_a_string_is_what_the_user_says():
    assert render_prompt(tiny_tokenizer(), "Hi") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_messages_are_rendered_as_they_are():
    chat = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    rendered = render_prompt(tiny_tokenizer(), chat)
    assert rendered.endswith("Bye<|im_end|>\n<|im_start|>assistant\n") and rendered.count("<|im_start|>") == 4
    assert len(chat) == 3


def test_a_system_prompt_comes_first_and_replaces_the_templates_own():
    rendered = render_prompt(tiny_tokenizer(CHATML_WITH_SYSTEM), "Hi", system="Be brief.")
    assert rendered.startswith("<|im_start|>system\nBe brief.<|im_end|>\n") and "You are tiny" not in rendered
    assert "You are tiny" in render_prompt(tiny_tokenizer(CHATML_WITH_SYSTEM), "Hi")


def test_a_template_that_refuses_says_so_in_one_sentence():
    template = "{{ raise_exception('no system role') }}"
    with pytest.raises(ModelError, match=r"cannot render the roles user .*no system role"):
        render_prompt(tiny_tokenizer(template), "Hi")


def test_the_hash_sees_order_borders_and_text():
    assert rendering_hash(["a", "b"]) == rendering_hash(("a", "b"))
    assert len({rendering_hash(texts) for texts in (["a", "b"], ["b", "a"], ["ab"], ["ab", ""], ["", "ab"], [])}) == 6
