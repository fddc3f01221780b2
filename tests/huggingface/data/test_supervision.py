from typing import Any

import pytest
from datasets import Dataset
from tests.tiny import CHATML, CHATML_WITH_SYSTEM, tiny_arguments, tiny_model, tiny_tokenizer
from tokenizers import processors
from trl.trainer.sft_trainer import SFTTrainer

from moored.errors import InputError, ModelError
from moored.huggingface.data import Supervision, drop_empty_rows, supervise

CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "It is Paris."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "\nYes. À bientôt"},
]
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The last turn is rendered otherwise than the earlier ones, as by templates that drop old thoughts.
FORGETFUL = MARKED.replace(
    "{{ m['content'] }}<|im_end|>{% endgen", "{{ '' if loop.last else 'old ' }}{{ m['content'] }}<|im_end|>{% endgen"
)


def _learned(rows, *, tokenizer=None, **settings):
    tokenizer = tokenizer or tiny_tokenizer()
    done = supervise(rows, Supervision(tokenizer=tokenizer, **settings), where="rows.jsonl")
    assert done.column_names == ["input_ids", "labels"]
    table: list[dict[str, Any]] = done.to_list()  # pyright: ignore[reportAssignmentType]
    for row in table:
        assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))
    return [str(tokenizer.decode([label for label in row["labels"] if label != -100])) for row in table], table


@pytest.mark.parametrize("template", [CHATML, CHATML_WITH_SYSTEM])
def test_every_assistant_turn_and_nothing_else_is_learned(template):
    (learned,), done = _learned([{"messages": CHAT}], tokenizer=tiny_tokenizer(template))
    assert learned == "It is Paris.<|im_end|>\n\nYes. À bientôt<|im_end|>\n"
    tokenizer = tiny_tokenizer(template)
    assert done[0]["input_ids"] == tokenizer.apply_chat_template(CHAT, return_dict=False)


def test_a_template_that_rewrites_earlier_turns_is_read_by_its_markers():
    (learned,), _ = _learned([{"messages": CHAT}], tokenizer=tiny_tokenizer(FORGETFUL))
    assert learned == "old It is Paris.<|im_end|>\nYes. À bientôt<|im_end|>"
    (last,), _ = _learned([{"prompt": CHAT[:4], "completion": CHAT[4:]}], tokenizer=tiny_tokenizer(FORGETFUL))
    assert last == "\nYes. À bientôt<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_without_markers_is_refused():
    tokenizer = tiny_tokenizer(FORGETFUL.replace("{% generation %}", "").replace("{% endgeneration %}", ""))
    with pytest.raises(ModelError, match=r"In row 1 of rows.jsonl: the chat template changes earlier turns"):
        _learned([{"messages": CHAT}], tokenizer=tokenizer)


def test_string_rows_are_a_chat_unless_raw_or_without_a_template():
    row = {"prompt": "Hi", "completion": " Hello"}
    (learned,), done = _learned([row])
    assert learned == " Hello<|im_end|>\n" and done[0]["input_ids"][0] == 1
    for settings in ({"render": "raw"}, {"tokenizer": tiny_tokenizer(None)}):
        (learned,), done = _learned([row], **settings)
        assert learned == " Hello<|im_end|>"
        assert tiny_tokenizer().decode(done[0]["input_ids"]) == "Hi Hello<|im_end|>"


def test_in_a_conversational_prompt_earlier_answers_are_not_learned():
    (learned,), _ = _learned([{"prompt": CHAT[:4], "completion": CHAT[4:]}])
    assert learned == "\nYes. À bientôt<|im_end|>\n"
    (learned,), _ = _learned([{"prompt": CHAT[:4], "completion": "Yes"}])
    assert learned == "Yes<|im_end|>\n"


def test_plain_text_is_learned_whole_and_ends():
    (one, two), _ = _learned([{"text": "It is"}, {"text": "It is<|im_end|>"}])
    assert one == two == "It is<|im_end|>"
    (learned,), _ = _learned([{"body": "It is"}], text_field="body")
    assert learned == "It is<|im_end|>"


def test_prompts_and_users_are_learned_when_asked():
    row = {"prompt": "Hi", "completion": " Hello"}
    assert _learned([row], completion_only=False)[0][0].startswith("<|im_start|>user\nHi")
    assert _learned([row], completion_only=False, render="raw")[0] == ["Hi Hello<|im_end|>"]
    assert _learned([{"messages": CHAT}], assistant_only=False)[0][0].startswith("<|im_start|>system\nBe kind.")


@pytest.mark.parametrize(
    "row",
    [
        {
            "prompt": [{"role": "user", "content": "What is it?"}],
            "completion": [{"role": "assistant", "content": "It."}],
        },
        {"text": "It is sunny today"},
    ],
)
def test_the_tokens_are_those_that_trl_makes(tmp_path, row):
    _, ours = _learned([row])
    args = tiny_arguments(tmp_path)
    theirs = SFTTrainer(
        tiny_model(), args, train_dataset=Dataset.from_list([row]), processing_class=tiny_tokenizer()
    ).train_dataset
    assert theirs is not None
    assert ours[0]["input_ids"] == theirs[0]["input_ids"] and ours[0]["labels"] == theirs[0]["labels"]


def test_a_first_token_is_added_to_plain_text_and_never_twice_to_a_chat():
    tokenizer = tiny_tokenizer()
    first = processors.TemplateProcessing(single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    tokenizer.backend_tokenizer.post_processor = first
    assert tokenizer("It").input_ids[0] == 1
    (_,), (chat,) = _learned([{"messages": CHAT}], tokenizer=tokenizer)
    assert str(tokenizer.decode(chat["input_ids"])).startswith("<|im_start|>system")
    for row in ({"text": "It is"}, {"prompt": "It", "completion": " is"}):
        (learned,), (plain,) = _learned([row], tokenizer=tokenizer, render="raw")
        assert tokenizer.decode(plain["input_ids"]) == "<|im_start|>It is<|im_end|>"
        assert learned.endswith(" is<|im_end|>")


@pytest.mark.parametrize("tools", [[{"name": "clock"}], '[{"name": "clock"}]'], ids=["a list", "JSON"])
def test_tools_reach_the_template(tools):
    template = "{% if tools %}{{ tools[0]['name'] }}{% endif %}" + CHATML
    _, done = _learned([{"messages": CHAT, "tools": tools}], tokenizer=tiny_tokenizer(template))
    assert tiny_tokenizer().decode(done[0]["input_ids"])[:17] == "clock<|im_start|>"


@pytest.mark.parametrize(
    ("rows", "error", "sentence"),
    [
        (
            [{"question": "?"}],
            InputError,
            "The columns of row 1 of rows.jsonl are question, but training",
        ),
        ([{"text": "a"}, {"text": None}], InputError, "The column text in row 2 of rows.jsonl holds no text"),
        (
            [{"text": "a"}, {"text": "half \ud83d"}],
            ModelError,
            "In row 2 of rows.jsonl: the tokenizer cannot read half a character",
        ),
        ([{"text": "a"}, {"txt": "b"}], InputError, "The columns of row 2 of rows.jsonl are txt, but training needs"),
        ([{"messages": CHAT}, {"messages": None}], InputError, "in row 2 of rows.jsonl is no list of messages"),
        (
            [{"messages": [{"role": "user", "content": None}]}],
            InputError,
            "row 1 of rows.jsonl lacks its role or content",
        ),
        ([{"prompt": "a", "completion": None}], InputError, "column completion in row 1"),
        ([{"messages": CHAT, "tools": "[{"}], InputError, "The column tools in row 1 of rows.jsonl is not valid JSON"),
    ],
)
def test_a_bad_row_is_named(rows, error, sentence):
    with pytest.raises(error, match=sentence):
        _learned(rows)


def test_a_chat_needs_a_template():
    with pytest.raises(ModelError, match=r"In row 1 of rows.jsonl: the tokenizer has no chat template"):
        _learned([{"messages": CHAT}], tokenizer=tiny_tokenizer(None))


def _rows(*labels):
    return Dataset.from_list([{"input_ids": [1] * len(row), "labels": list(row)} for row in labels])


EMPTY_AFTER_CUT = _rows([-100, 1, 1], [-100, -100, -100, 1], [-100, 1], [1, -100, -100])


def test_rows_that_are_empty_after_the_cut_are_an_error_that_names_them():
    with pytest.raises(
        InputError, match=r"2 of 4 rows of x have no supervised token within max_length=3 \(rows 2, 4\)"
    ):
        drop_empty_rows(EMPTY_AFTER_CUT, where="x", max_length=3)


def test_they_are_dropped_and_counted_when_asked(caplog):
    kept = drop_empty_rows(EMPTY_AFTER_CUT, where="x", max_length=3, on_empty="drop")
    assert kept["labels"] == [[-100, 1, 1], [-100, 1]]
    assert "2 of 4 rows of x" in caplog.text
    assert len(drop_empty_rows(EMPTY_AFTER_CUT, where="x", max_length=None, on_empty="drop")) == 3
    assert len(drop_empty_rows(EMPTY_AFTER_CUT, where="x", max_length=2, keep_end=True, on_empty="drop")) == 3


def test_all_empty_is_an_error_whatever_is_asked():
    with pytest.raises(InputError, match=r"7 of 7 rows of x .*rows 1, 2, 3, 4, 5, …"):
        drop_empty_rows(_rows(*[[-100, -100]] * 7), where="x", max_length=None, on_empty="drop")


def test_full_rows_come_back_as_they_are():
    rows = _rows([-100, 1])
    assert drop_empty_rows(rows, where="x", max_length=2) is rows
