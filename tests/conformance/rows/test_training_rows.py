"""Rows as people bring them, and what is learned of each, stated by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import trl
from datasets import Dataset
from tests.conformance.cases import case
from tests.conformance.rows.shown import shown
from tests.conformance.templates.families import FAMILIES
from tests.tiny import CHATML, tiny_tokenizer

from moored.errors import InputError, ModelError
from moored.huggingface.data import Supervision, open_rows, prepare_rows, render_prompt, supervise

QWEN3 = FAMILIES["Qwen3, which thinks"].tokenizer()


def user(content="Hi", **more):
    return {"role": "user", "content": content, **more}


def said(content="Yes.", **more):
    return {"role": "assistant", "content": content, **more}


def text(content, kind="text"):
    return {"type": kind, "text": content}


def call(name, **arguments):
    return {
        "role": "assistant",
        "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}],
    }


def turn(role, content):
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def answer(content):
    return f"<|im_start|>assistant\n[[{content}<|im_end|>\n]]"


def thought(content):
    """A last turn of Qwen3 without thoughts."""
    return answer(f"<think>\n\n</think>\n\n{content}")


def qwen_call(name, arguments):
    return thought(f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>')


WEIGHTED = [user(), said("No.", weight=0), user("Sure?"), said(weight=1)]
SECOND_ALONE = turn("user", "Hi") + turn("assistant", "No.") + turn("user", "Sure?") + answer("Yes.")
TWO_TOOLS = [{"messages": [user(), call("add", x=0, y=1)]}, {"messages": [user(), call("say", text="x")]}]

LEARNED = [
    case(
        "content as a list of text parts",
        [[user([text("Hi")]), said([text("Yes.")])]],
        [turn("user", "Hi") + answer("Yes.")],
        fast=True,
    ),
    case(
        "several text parts in a message",
        [[user([text("Hi"), text(" there")]), said([text("Ye"), text("s.")])]],
        [turn("user", "Hi there") + answer("Yes.")],
        fast=True,
    ),
    case(
        "parts of the Responses API",
        [[user([text("Hi", "input_text")]), said([text("Yes.", "output_text")])]],
        [turn("user", "Hi") + answer("Yes.")],
        fast=True,
    ),
    case(
        "texts and parts in one file",
        [[user(), said()], [user([text("Hi")]), said()]],
        [turn("user", "Hi") + answer("Yes.")] * 2,
        fast=True,
    ),
    case("weight: 0 and 1 (OpenAI)", [WEIGHTED], [SECOND_ALONE], fast=True),
    case(
        "train: false (axolotl)",
        [[user(), said("No.", train=False), user("Sure?"), said(train=True)]],
        [SECOND_ALONE],
        fast=True,
    ),
    case(
        "weight: 0.0, and no weight on other turns",
        [[user(), said("No.", weight=0.0), user("Sure?"), said()]],
        [SECOND_ALONE],
        fast=True,
    ),
    case(
        "loss: false, trainable: false, loss_mask: 0",
        [
            [user(), said("No.", **{key: 0}), user("Sure?"), said()]
            for key in ("loss", "trainable", "loss_mask", "training")
        ],
        [SECOND_ALONE] * 4,
        fast=True,
    ),
    case(
        "no turn of a row is learned",
        [[user(), said(weight=0)]],
        [turn("user", "Hi") + turn("assistant", "Yes.")],
        outcome="limited",
        note="such rows are refused or dropped, by on_empty_rows",
        fast=True,
    ),
]


def learned(path, tokenizer, **settings):
    rows = replace(open_rows(path), name=path.name)
    return shown(tokenizer, prepare_rows(rows, Supervision(tokenizer=tokenizer, **settings)))


def jsonl(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(tmp_path, rows):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def folder(tmp_path, rows):
    Dataset.from_list(rows).save_to_disk(tmp_path / "rows")
    return tmp_path / "rows"


@pytest.mark.parametrize(("chats", "expected"), LEARNED)
def test_what_is_learned_of_messages(tmp_path, chats, expected):
    assert learned(jsonl(tmp_path, [{"messages": chat} for chat in chats]), tiny_tokenizer()) == expected


@pytest.mark.parametrize(
    ("write", "rows"),
    [
        case("tool calls of unlike arguments, JSONL", jsonl, TWO_TOOLS, fast=True),
        case("tool calls of unlike arguments, Parquet", parquet, TWO_TOOLS, fast=True),
        case("tool calls of unlike arguments, a folder of datasets", folder, TWO_TOOLS),
        case("a JSON array", lambda tmp_path, rows: _array(tmp_path, rows), TWO_TOOLS),
    ],
)
def test_arguments_are_learned_without_the_nulls_of_a_table(tmp_path, write, rows):
    assert learned(write(tmp_path, rows), QWEN3) == [
        turn("user", "Hi") + qwen_call("add", '{"x": 0, "y": 1}'),
        turn("user", "Hi") + qwen_call("say", '{"text": "x"}'),
    ]


def _array(tmp_path, rows):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    return path


WRITTEN = [
    case("arguments of one name and two types", {"x": 1}, {"x": "one"}, fast=True),
    case("an argument that is null in the row", {"x": None}, {"x": 1}, fast=True),
    case("nested arguments of unlike keys", {"x": {"a": 1}}, {"x": {"b": [{"c": 1}, {"d": 2}]}}, fast=True),
    case("numbers of many digits", {"x": 0.1234567890123456}, {"x": 12345678901234567890123}, fast=True),
]


@pytest.mark.parametrize(("one", "other"), WRITTEN)
def test_arguments_in_json_are_learned_as_they_are_written(tmp_path, one, other):
    path = jsonl(tmp_path, [{"messages": [user(), call("f", **arguments)]} for arguments in (one, other)])
    assert learned(path, QWEN3) == [turn("user", "Hi") + qwen_call("f", json.dumps(each)) for each in (one, other)]


@pytest.mark.parametrize(
    "write", [case("schemas of tools, JSONL", jsonl, fast=True), case("schemas of tools, Parquet", parquet, fast=True)]
)
def test_tools_are_shown_without_the_nulls_of_a_table(tmp_path, write):
    tools = (
        [{"name": "add", "parameters": {"x": {"type": "int"}}}],
        [{"name": "say", "parameters": {"text": {"type": "str"}}}],
    )
    rows = [{"messages": [user(), said()], "tools": each} for each in tools]
    assert learned(write(tmp_path, rows), QWEN3) == [
        turn("system", json.dumps(each[0]) + "\n") + turn("user", "Hi") + thought("Yes.") for each in tools
    ]


@pytest.mark.parametrize("column", [case("a tool whose schema has a null in the row", "tools", fast=True)])
def test_a_null_of_the_row_itself_is_shown(tmp_path, column):
    tool = {"name": "add", "default": None}
    (text_of_row,) = learned(jsonl(tmp_path, [{"messages": [user(), said()], column: [tool]}]), QWEN3)
    assert '{"name": "add", "default": null}' in text_of_row


EVERYTHING = {"assistant_only": False}


@pytest.mark.parametrize(
    ("row", "settings", "expected"),
    [
        case(
            "prompt and completion as messages with parts",
            {"prompt": [user([text("Hi")])], "completion": [said([text("Yes.")])]},
            {},
            turn("user", "Hi") + answer("Yes."),
            fast=True,
        ),
        case(
            "a weight in a completion",
            {"prompt": [user()], "completion": [said("No.", weight=0), user("Sure?"), said()]},
            {},
            SECOND_ALONE,
            fast=True,
        ),
        case(
            "every turn is learned but one",
            {"messages": WEIGHTED},
            EVERYTHING,
            f"[[{turn('user', 'Hi')}<|im_start|>assistant\n]]No.<|im_end|>\n"
            f"[[{turn('user', 'Sure?')}{turn('assistant', 'Yes.')}]]",
            fast=True,
        ),
        case(
            "every turn is learned but the user's",
            {"messages": [user(weight=0), said()]},
            EVERYTHING,
            f"{turn('user', 'Hi')}[[{turn('assistant', 'Yes.')}]]",
            fast=True,
        ),
        case(
            "a system message",
            {"messages": [{"role": "system", "content": "Be kind."}, user(), said()]},
            {},
            turn("system", "Be kind.") + turn("user", "Hi") + answer("Yes."),
            fast=True,
        ),
    ],
)
def test_what_is_learned_of_other_rows(tmp_path, row, settings, expected):
    assert learned(jsonl(tmp_path, [row]), tiny_tokenizer(), **settings) == [expected]


WELL = "<think>\nWell.\n</think>\n\nYes."
THOUGHTS = [user(), said("No.", reasoning_content="Hm."), user("Sure?"), said("Yes.", reasoning_content="Well.")]


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        case(
            "Qwen3, a question and an answer without thoughts",
            [user(), said()],
            turn("user", "Hi") + thought("Yes."),
            fast=True,
        ),
        case(
            "Qwen3, thoughts in the content",
            [user(), said("<think>\nWell.\n</think>\n\nYes.")],
            turn("user", "Hi") + answer(WELL),
            fast=True,
        ),
        case(
            "Qwen3, thoughts of every turn under a key of their own",
            THOUGHTS,
            turn("user", "Hi") + turn("assistant", "No.") + turn("user", "Sure?") + answer(WELL),
            outcome="limited",
            note="the template takes the thoughts out of earlier turns, so these are not learned, and one line says so",
            fast=True,
        ),
        case(
            "Qwen3, several turns without thoughts",
            [user(), said("No."), user("Sure?"), said()],
            turn("user", "Hi") + answer("No.") + turn("user", "Sure?") + thought("Yes."),
            fast=True,
        ),
        case(
            "Qwen3, a tool call, its result and an answer",
            [user(), call("f", x=1), {"role": "tool", "content": "2"}, said()],
            turn("user", "Hi") + qwen_call("f", '{"x": 1}') + turn("tool", "2") + thought("Yes."),
            fast=True,
        ),
        case(
            "Qwen3, an earlier turn of weight 0",
            WEIGHTED,
            turn("user", "Hi") + turn("assistant", "No.") + turn("user", "Sure?") + thought("Yes."),
            fast=True,
        ),
    ],
)
def test_what_is_learned_under_a_template_that_thinks(tmp_path, chat, expected):
    assert learned(jsonl(tmp_path, [{"messages": chat}]), QWEN3) == [expected]


NAMED = [
    case(
        "a name that the template does not read",
        {"messages": [user(name="Ann"), said()]},
        "name of the role user (row 2, say)",
        fast=True,
    ),
    case(
        "tools that the template does not show",
        {"messages": [user(), said()], "tools": [{"name": "f"}]},
        "the column tools (row 2, say)",
        fast=True,
    ),
    case(
        "variables that the template does not read",
        {"messages": [user(), said()], "chat_template_kwargs": {"enable_thinking": False}},
        "the column chat_template_kwargs (row 2, say)",
        fast=True,
    ),
    case(
        "a system column beside messages",
        {"messages": [user(), said()], "system": "Be kind."},
        "the column system (row 2, say)",
        fast=True,
    ),
    case(
        "thoughts that the template drops",
        {"messages": [user(), said(reasoning_content="Hm.")]},
        "reasoning_content of the role assistant (row 2, say)",
        fast=True,
    ),
]


@pytest.mark.parametrize(("row", "name"), NAMED)
def test_a_key_that_changes_nothing_is_named_once(tmp_path, caplog, row, name):
    learned(jsonl(tmp_path, [{"messages": [user(), said()]}, row, row]), tiny_tokenizer())
    (record,) = caplog.records
    assert record.getMessage() == f"rows.jsonl: the rendering does not change with {name}, so nothing of it is learned."


@pytest.mark.parametrize("chunks", [case("a key in several chunks of a file", 3, fast=True)])
def test_a_key_is_named_once_for_all_chunks(caplog, chunks):
    how = Supervision(tokenizer=tiny_tokenizer())
    for _ in range(chunks):
        supervise([{"messages": [user(name="Ann"), said()]}], how, where="rows")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("template", [case("weights, which no template reads", CHATML, fast=True)])
def test_what_is_read_is_not_named(tmp_path, caplog, template):
    learned(jsonl(tmp_path, [{"messages": WEIGHTED}]), tiny_tokenizer(template))
    learned(jsonl(tmp_path, [{"messages": THOUGHTS[:1] + THOUGHTS[3:], "tools": [{"name": "f"}]}]), QWEN3)
    assert not caplog.records


@pytest.mark.parametrize("chat", [case("thoughts that a template takes out of earlier turns", THOUGHTS, fast=True)])
def test_turns_that_lose_their_thoughts_are_named_once(tmp_path, caplog, chat):
    learned(jsonl(tmp_path, [{"messages": chat}] * 2), QWEN3)
    (record,) = caplog.records
    assert record.getMessage() == (
        "rows.jsonl: the chat template takes the thoughts out of earlier turns, so those turns are not learned (row 1, "
        "say)."
    )


FORGOTTEN = [
    case("weight 0 for a turn whose thoughts are gone", {**THOUGHTS[1], "weight": 0}, fast=True),
    case("train false for a turn whose thoughts are gone", {**THOUGHTS[1], "train": False}, fast=True),
]


@pytest.mark.parametrize("answer", FORGOTTEN)
def test_a_turn_that_lost_its_thoughts_is_left_out(tmp_path, answer):
    row = {"messages": [THOUGHTS[0], answer, *THOUGHTS[2:]]}
    before, out, after = turn("user", "Hi"), "No.<|im_end|>\n", turn("user", "Sure?")
    (text,) = learned(jsonl(tmp_path, [row]), QWEN3, assistant_only=False)
    assert text == f"[[{before}<|im_start|>assistant\n]]{out}[[{after}<|im_start|>assistant\n{WELL}<|im_end|>\n]]"


TRL_QWEN3 = (Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja").read_text()


@pytest.mark.parametrize("template", [case("Qwen3's own template, several turns", TRL_QWEN3, fast=True)])
def test_what_is_learned_stands_where_it_is_asked(tmp_path, template):
    """The tokens of a chat are those that the model sees when it is asked for its last answer."""
    tokenizer = FAMILIES["Qwen3, which thinks"].tokenizer()
    tokenizer.chat_template = template
    chat = [user(), said("No."), user("Sure?"), said()]
    (text_of_row,) = learned(jsonl(tmp_path, [{"messages": chat}]), tokenizer)
    asked = render_prompt(tokenizer, chat[:3])
    assert text_of_row.replace("[[", "").replace("]]", "").startswith(asked)
    assert text_of_row == turn("user", "Hi") + answer("No.") + turn("user", "Sure?") + thought("Yes.")


IGNORES_SYSTEM = CHATML.replace("<|im_start|>{{ m", "{% if message['role'] != 'system' %}<|im_start|>{{ m", 1).replace(
    "\n{% endfor", "\n{% endif %}{% endfor"
)


@pytest.mark.parametrize("template", [case("a system message that the template drops", IGNORES_SYSTEM, fast=True)])
def test_a_message_that_changes_nothing_is_named(tmp_path, caplog, template):
    path = jsonl(tmp_path, [{"messages": [{"role": "system", "content": "Be kind."}, user(), said()]}])
    assert learned(path, tiny_tokenizer(template)) == [turn("user", "Hi") + answer("Yes.")]
    assert "does not change with content of the role system (row 1, say)" in caplog.text


CHAT_OF = {"messages": [user(), said()]}
REFUSED = [
    case(
        "a part that is an image",
        {"messages": [user([{"type": "image", "image": "x.png"}]), said()]},
        InputError,
        "A message in row 2 of rows.jsonl has a part of the type image",
        outcome="refused",
        fast=True,
    ),
    case(
        "a content that is a number",
        {"messages": [user(3), said()]},
        InputError,
        "The content of a message in row 2 of rows.jsonl is 3; write a text",
        outcome="refused",
        fast=True,
    ),
    case(
        "a weight between 0 and 1",
        {"messages": [user(), said(weight=0.5)]},
        InputError,
        r"The weight of a message in row 2 of rows.jsonl is 0\.5; a turn is either",
        outcome="refused",
        fast=True,
    ),
    case(
        "a weight that is a word",
        {"messages": [user(), said(train="no")]},
        InputError,
        "The train of a message in row 2 of rows.jsonl is 'no'",
        outcome="refused",
        fast=True,
    ),
    case(
        "tools that are no list of schemas",
        {**CHAT_OF, "tools": {"name": "f"}},
        InputError,
        "The column tools in row 2 of rows.jsonl is no list of tools",
        outcome="refused",
        fast=True,
    ),
    case(
        "tools that are nested too deeply",
        {**CHAT_OF, "tools": "[" * 100_000},
        InputError,
        "The column tools in row 2 of rows.jsonl is not valid JSON",
        outcome="refused",
        fast=True,
    ),
    case(
        "chat_template_kwargs that are no mapping",
        {**CHAT_OF, "chat_template_kwargs": [1]},
        InputError,
        "The column chat_template_kwargs in row 2 of rows.jsonl is no mapping",
        outcome="refused",
        fast=True,
    ),
    case(
        "chat_template_kwargs that set what no row can set",
        {**CHAT_OF, "chat_template_kwargs": {"tokenize": True}},
        InputError,
        "holds tokenize, which no row can set",
        outcome="refused",
        fast=True,
    ),
    case(
        "chat_template_kwargs that hold messages",
        {**CHAT_OF, "chat_template_kwargs": {"messages": []}},
        InputError,
        "holds messages, which no row can set",
        outcome="refused",
        fast=True,
    ),
]


@pytest.mark.parametrize(("row", "error", "sentence"), REFUSED)
def test_a_row_is_refused_in_one_sentence(tmp_path, row, error, sentence):
    with pytest.raises(error, match=sentence) as raised:
        learned(jsonl(tmp_path, [CHAT_OF, row]), tiny_tokenizer())
    assert "\n" not in str(raised.value)


RAISING = {
    "a type error": "{{ 'x' + 3 }}",
    "a division by zero": "{{ 1 // 0 }}",
    "a range that is too long": "{% for x in range(10 ** 9) %}{% endfor %}",
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "an include": "{% include 'other' %}",
    "a key error": "{{ {}.x.y }}",
    "a refusal of the template's own": "{{ raise_exception('no such role') }}",
    "a syntax error": "{% if %}",
    "a value error": "{{ 'x' | int(base=99) | round('x') }}",
    "nothing at all": "",
    "an empty text": "{{ '' }}",
}


@pytest.mark.parametrize(
    "template",
    [
        case(f"a template that ends in {name}", text, outcome="refused", fast=True)
        for name, text in RAISING.items()
        if text
    ],
)
def test_whatever_a_template_raises_is_one_sentence_with_file_and_row(tmp_path, template):
    with pytest.raises(ModelError, match=r"^In row 1 of rows\.jsonl: the chat template ") as raised:
        learned(jsonl(tmp_path, [CHAT_OF]), tiny_tokenizer(template))
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
