"""Prompts: dates, switches of thinking, templates that lose something, and templates beside adapters."""

import json
from datetime import datetime

import pytest
from tests.adapters import save_adapter
from tests.conformance.cases import case
from tests.conformance.templates.families import FAMILIES
from tests.tiny import CHATML, save_tiny, tiny_tokenizer
from transformers.utils import chat_template_utils

from moored.errors import ModelError
from moored.huggingface.data import render_prompt, template_date
from moored.huggingface.models import ModelSource, load_tokenizer, require_chat_template

DATED = [case(name, FAMILIES[name], fast=True) for name in FAMILIES if "strftime_now" in FAMILIES[name].template]


@pytest.mark.parametrize("family", DATED)
def test_a_date_is_pinned_and_told(family):
    tokenizer = family.tokenizer()
    assert render_prompt(tokenizer, "Hi there") == family.asked
    assert template_date(tokenizer) == "2026-01-01"


class Tomorrow(datetime):
    """The clock of another day."""

    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 6, tzinfo=tz)


@pytest.mark.parametrize("family", DATED)
def test_a_prompt_is_the_same_on_another_day(monkeypatch, family):
    tokenizer = family.tokenizer()
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert render_prompt(tokenizer, "Hi there") == family.asked
    assert "2031" in tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)


@pytest.mark.parametrize("family", [case("a template without a date", FAMILIES["Llama 3"], fast=True)])
def test_no_date_is_told_where_none_is_asked_for(family):
    assert template_date(family.tokenizer()) is None


CLOSED = "<think>\n\n</think>\n\n"
SWITCHED = [
    case("Qwen3: enable_thinking", "Qwen3, which thinks", "<|im_start|>assistant\n", CLOSED, fast=True),
    case("DeepSeek-V3.1: thinking", "DeepSeek-V3.1, whose thinking is switched", "<think>", "</think>", fast=True),
    case("GLM-4.5", "GLM-4.5, whose turns have no end", "<|assistant|>", "\n<think></think>\n", fast=True),
    case("SmolLM3", "SmolLM3, with a date and a switch", "<|im_start|>assistant\n", "<think>\n\n</think>\n", fast=True),
]


@pytest.mark.parametrize(("name", "on", "off"), SWITCHED)
def test_thinking_is_switched(name, on, off):
    tokenizer = FAMILIES[name].tokenizer()
    assert render_prompt(tokenizer, "Hi there", thinking="on").endswith(on)
    assert render_prompt(tokenizer, "Hi there", thinking="off").endswith(off)


NO_SWITCH = ["ChatML", "Llama 3", "gpt-oss, in harmony", "DeepSeek-R1", "QwQ, whose prompt opens <think>"]


@pytest.mark.parametrize("name", [case(name, name, outcome="refused", fast=True) for name in NO_SWITCH])
@pytest.mark.parametrize("thinking", ["on", "off"])
def test_a_switch_that_a_template_lacks_is_refused(name, thinking):
    with pytest.raises(ModelError, match=rf"^the chat template has no switch for thinking .*thinking {thinking} would"):
        render_prompt(FAMILIES[name].tokenizer(), "Hi there", thinking=thinking)


NO_PROMPT = CHATML.partition("{% if add_generation_prompt")[0]
HEADERS = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endfor %}"
LOSING = [
    case(
        "a template that ignores add_generation_prompt",
        NO_PROMPT,
        "ignores add_generation_prompt",
        outcome="refused",
        fast=True,
    ),
    case(
        "headers in plain text, no generation prompt",
        HEADERS,
        "ignores add_generation_prompt",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that renders nothing",
        "{{ '' }}",
        "leaves out the text of the role user",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that forgets the user",
        CHATML.replace("message['content']", "''"),
        "leaves out the text of the role user",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that reads another key",
        CHATML.replace("message['content']", "message['text']"),
        "leaves out the text of the role user",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that shows the first word",
        CHATML.replace("message['content']", "message['content'].split()[0]"),
        "leaves out the text of the role user",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that raises",
        "{{ raise_exception('nothing for you') }}",
        "cannot render the roles user .*nothing for you",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that adds a number to a text",
        "{{ messages[0]['content'] + 1 }}",
        "cannot render the roles user .*TypeError",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that ends in a recursion",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "RecursionError",
        outcome="refused",
        fast=True,
    ),
    case(
        "a template that asks for too long a range",
        "{% for n in range(10 ** 7) %}{% endfor %}",
        "OverflowError",
        outcome="refused",
        fast=True,
    ),
    case("a template that divides by zero", "{{ 1 / 0 }}", "ZeroDivisionError", outcome="refused", fast=True),
]


@pytest.mark.parametrize(("template", "sentence"), LOSING)
def test_a_prompt_that_loses_something_is_refused(template, sentence):
    with pytest.raises(ModelError, match=sentence) as raised:
        render_prompt(tiny_tokenizer(template), "What is the capital of France?")
    assert "\n" not in str(raised.value)


KEPT = [
    case(
        "a template that always writes the assistant's header",
        CHATML.replace("{% if add_generation_prompt %}", "").replace("{% endif %}", ""),
        fast=True,
    ),
    case(
        "a template that breaks lines anew",
        CHATML.replace("message['content']", "message['content'] | wordwrap(9)"),
        fast=True,
    ),
    case("a template that trims", CHATML.replace("message['content']", "message['content'] | trim"), fast=True),
]


@pytest.mark.parametrize("template", KEPT)
def test_a_prompt_that_keeps_everything_is_asked(template):
    rendered = render_prompt(tiny_tokenizer(template), "  What is the capital of France? \n")
    assert "WhatisthecapitalofFrance?" in "".join(rendered.split())
    assert rendered.rstrip().endswith("assistant")


@pytest.mark.parametrize(
    "named",
    [case("a list of templates without a default", {"rag": CHATML, "tool_use": CHATML}, outcome="refused", fast=True)],
)
def test_several_templates_without_a_default_are_refused(tmp_path, named):
    base = save_tiny(tmp_path / "base", chat_template=None)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = named
    tokenizer.save_pretrained(base)
    with pytest.raises(ModelError, match=r"has the chat templates rag, tool_use and none called default"):
        require_chat_template(load_tokenizer(ModelSource(str(base))), "base")


@pytest.mark.parametrize(
    "named", [case("a list of templates with a default", {"default": CHATML, "rag": NO_PROMPT}, fast=True)]
)
def test_the_default_of_several_templates_is_used(tmp_path, named):
    base = save_tiny(tmp_path / "base", chat_template=None)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = named
    tokenizer.save_pretrained(base)
    loaded = load_tokenizer(ModelSource(str(base)))
    require_chat_template(loaded, "base")
    assert render_prompt(loaded, "Hi") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


OTHER = CHATML.replace("<|im_start|>", "<|im_start|>!")


@pytest.mark.parametrize(
    "file",
    [
        case("chat_template.jinja alone beside an adapter", "chat_template.jinja", fast=True),
        case("chat_template.json alone beside an adapter", "chat_template.json", fast=True),
    ],
)
def test_a_template_beside_an_adapter_counts(tmp_path, file):
    base = save_tiny(tmp_path / "base")
    adapter = save_adapter(tmp_path / "adapter", "llama", base=str(base))
    for tokenizer_file in ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja"):
        (adapter / tokenizer_file).unlink(missing_ok=True)
    (adapter / file).write_text(OTHER if file.endswith("jinja") else json.dumps({"chat_template": OTHER}))
    tokenizer = load_tokenizer(ModelSource(str(base), adapter))
    assert render_prompt(tokenizer, "Hi").startswith("<|im_start|>!user")
