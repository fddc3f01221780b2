import json
import os
import resource
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import pytest
from tests.conformance.templates.families import FAMILIES
from tests.tiny import CHATML, tiny_tokenizer
from tokenizers.pre_tokenizers import PreTokenizer
from transformers import PreTrainedTokenizerFast

from moored.errors import InputError, ModelError
from moored.huggingface.data import Supervision, open_rows, preparation, prepare_rows, prepared_folder, supervise
from moored.huggingface.data.stream import RowStream

USER, SAID = {"role": "user", "content": "Hi, you"}, {"role": "assistant", "content": "Yes. À bientôt"}
KINDS = [
    {"messages": [USER, SAID]},
    {"messages": [{"role": "system", "content": "Be kind."}, USER, SAID, {**USER, "name": "Ann"}, SAID]},
    {"messages": [USER, {**SAID, "weight": 0}, USER, {**SAID, "weight": 1}]},
    {"messages": [USER, {**SAID, "reasoning_content": "Hm."}, USER, SAID]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, SAID]},
    {"messages": [USER, SAID], "tools": [{"name": "clock", "default": None}]},
    {"messages": [USER, SAID], "unfinished": True},
    {"prompt": "Hi", "completion": " Hello"},
    {"prompt": [USER, SAID, USER], "completion": [SAID]},
    {"text": "It is sunny today"},
]


@pytest.fixture(autouse=True)
def many(tmp_path, monkeypatch):
    """Makes few rows many, with a cache of their own."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(preparation, "TOGETHER", 3)
    monkeypatch.setattr(preparation, "_FEW", 2)


def _file(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_rows(path)


def _prepared(rows, tokenizer=None, *, num_proc=1, **settings):
    return prepare_rows(rows, Supervision(tokenizer=tokenizer or tiny_tokenizer(), **settings), num_proc=num_proc)


@pytest.mark.parametrize("family", ["ChatML", "Qwen3, which thinks"])
@pytest.mark.parametrize("settings", [{}, {"assistant_only": False, "completion_only": False, "render": "raw"}])
def test_rows_become_the_same_alone_together_and_in_several_processes(tmp_path, family, settings):
    tokenizer = FAMILIES[family].tokenizer()
    how = Supervision(tokenizer=tokenizer, **settings)
    alone = [supervise([row], how, where="row")[0] for row in KINDS]
    assert _prepared(_file(tmp_path, KINDS), tokenizer, num_proc=2, **settings).to_list() == alone
    assert supervise(KINDS, how, where="rows").to_list() == alone


def _plain(tokenizer, row):
    """A conversation's tokens and labels, by one call for everything."""
    ids, labels = tokenizer.apply_chat_template(row["messages"], return_dict=False), None
    labels = [-100] * len(ids)
    for turn, message in enumerate(row["messages"]):
        if message["role"] == "assistant":
            before = tokenizer.apply_chat_template(
                row["messages"][:turn], add_generation_prompt=True, return_dict=False
            )
            upto = tokenizer.apply_chat_template(row["messages"][: turn + 1], return_dict=False)
            labels[len(before) : len(upto)] = ids[len(before) : len(upto)]
    return {"input_ids": ids, "labels": labels}


def test_the_tokens_and_labels_are_those_of_the_template(tmp_path):
    rows = [{"messages": [USER, SAID] * turns} for turns in (1, 2, 3)] * 3
    assert _prepared(_file(tmp_path, rows)).to_list() == [_plain(tiny_tokenizer(), row) for row in rows]


@pytest.mark.parametrize("num_proc", [1, 2])
@pytest.mark.parametrize(
    ("row", "error", "sentence"),
    [
        ({"messages": 3}, InputError, "The column messages in row 9 of .*rows.jsonl is no list of messages"),
        ({"messages": [{"role": "user"}]}, InputError, "A message in row 9 of .*rows.jsonl lacks its role or content"),
        ({"messages": [USER], "chat_template_kwargs": {"x": 1}}, ModelError, "In row 9 of .*rows.jsonl: the chat tem"),
        ({"text": "half \ud83d"}, ModelError, "In row 9 of .*rows.jsonl: the tokenizer cannot read half a character"),
    ],
)
def test_an_error_names_its_row_and_leaves_nothing(tmp_path, num_proc, row, error, sentence):
    template = "{% if x %}{{ raise_exception('no') }}{% endif %}" + CHATML
    rows = _file(tmp_path, [*KINDS[:1] * 8, row, *KINDS[:1] * 8, row])
    with pytest.raises(error, match=sentence) as raised:
        _prepared(rows, tiny_tokenizer(template), num_proc=num_proc)
    assert "\n" not in str(raised.value)
    assert not [path for path in (tmp_path / "cache" / "moored").iterdir() if path.suffix != ".lock"]


def test_a_broken_line_is_named(tmp_path):
    rows = _file(tmp_path, KINDS)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"text": ')
    with pytest.raises(InputError, match=r"rows.jsonl, line 11 is not valid JSON"):
        _prepared(rows, num_proc=2)


def test_a_killed_process_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(preparation, "tokenized", lambda *_, **__: os._exit(9))
    with pytest.raises(InputError, match=r"The system ended a process that tokenizes rows.*dataset_num_proc: 1"):
        _prepared(_file(tmp_path, KINDS), num_proc=2)


def _tokenized_rows(monkeypatch):
    """The numbers of the rows that are tokenized from now on, a list for each block."""
    numbers, tokenized = [], preparation.tokenized
    monkeypatch.setattr(
        preparation, "tokenized", lambda *given, first: numbers.append(first) or tokenized(*given, first=first)
    )
    return numbers


def test_rows_are_tokenized_once_for_all_runs(tmp_path, monkeypatch, caplog):
    rows, numbers = _file(tmp_path, KINDS), _tokenized_rows(monkeypatch)
    first = _prepared(rows)
    assert numbers == [1, 4, 7, 10]
    (tmp_path / "rows.jsonl").rename(tmp_path / "other.jsonl")
    again = _prepared(open_rows(tmp_path / "other.jsonl"))
    assert again.to_list() == first.to_list() and numbers == [1, 4, 7, 10]
    one, other = (record.getMessage() for record in caplog.records)
    assert "name of the role user (row 2, say)" in one and one.replace("rows.jsonl", "other.jsonl") == other


def _other_tokens():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["sunny"])
    return tokenizer


CHANGES = {
    "a row": lambda rows: (_changed(rows), {}),
    "the template": lambda rows: (rows, {"tokenizer": tiny_tokenizer(CHATML.replace("\n", " "))}),
    "the vocabulary": lambda rows: (rows, {"tokenizer": _other_tokens()}),
    "the end token": lambda rows: (rows, {"tokenizer": _with(eos_token="<pad>")}),
    "how special tokens are read": lambda rows: (rows, {"tokenizer": _with(split_special_tokens=True)}),
    "what is learned of messages": lambda rows: (rows, {"assistant_only": False}),
    "what is learned of completions": lambda rows: (rows, {"completion_only": False}),
    "how strings are rendered": lambda rows: (rows, {"render": "raw"}),
}


def _changed(rows):
    """The rows of a file whose text alone has changed."""
    path = Path(rows.name)
    text, times = path.read_text(), path.stat()
    path.write_text(text.replace("sunny", "rainy"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return open_rows(path)


def _with(**values):
    tokenizer = tiny_tokenizer()
    for name, value in values.items():
        setattr(tokenizer, name, value)
    return tokenizer


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_nothing_stale_is_served(tmp_path, change):
    rows = _file(tmp_path, KINDS)
    before = _prepared(rows).to_list()
    rows, settings = change(rows)
    after = _prepared(rows, **settings).to_list()
    how = Supervision(**{"tokenizer": tiny_tokenizer(), **settings})
    assert before != after == supervise([row for chunk in rows.chunks(9) for row in chunk], how, where="x").to_list()


def test_a_file_that_changes_meanwhile_is_not_kept(tmp_path):
    rows = _file(tmp_path, KINDS)

    def read():
        yield from rows.read()
        _changed(rows)

    with pytest.raises(InputError, match=r"rows.jsonl has changed while it was read"):
        _prepared(replace(rows, read=read))
    assert len(list((tmp_path / "cache" / "moored").iterdir())) == 1  # the lock


class Own(PreTrainedTokenizerFast):
    """A class whose code a name does not tell."""


def _written_in_python():
    class Words:
        def pre_tokenize(self, pretok):
            pretok.split(lambda _, text: text.split(" ", "isolated"))

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = PreTokenizer.custom(Words())
    return tokenizer


@pytest.mark.parametrize(
    "tokenizer",
    [lambda: Own(tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token="<|im_end|>"), _written_in_python],
)
def test_a_tokenizer_that_cannot_be_told_from_others_is_asked_again(tmp_path, monkeypatch, tokenizer):
    rows, numbers = _file(tmp_path, [{"text": "It is"}] * 9), _tokenized_rows(monkeypatch)
    for _ in range(2):
        _prepared(rows, tokenizer())
    assert numbers == [1, 4, 7] * 2 and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("what", ["_own_code", "version"])
def test_other_code_makes_its_own_tokens(tmp_path, monkeypatch, what):
    rows, numbers = _file(tmp_path, KINDS), _tokenized_rows(monkeypatch)
    _prepared(rows)
    monkeypatch.setattr(prepared_folder, what, lambda *_: "other")
    _prepared(rows)
    assert numbers == [1, 4, 7, 10] * 2


def test_without_caching_nothing_is_kept(tmp_path, monkeypatch):
    rows, numbers = _file(tmp_path, KINDS), _tokenized_rows(monkeypatch)
    datasets.disable_caching()
    try:
        assert len(_prepared(rows)) == len(_prepared(rows)) == len(KINDS)
    finally:
        datasets.enable_caching()
    assert numbers == [1, 4, 7, 10] * 2
    assert not (tmp_path / "cache").exists()


def test_what_a_killed_run_left_is_removed(tmp_path):
    rows = _file(tmp_path, KINDS)
    folder = Path(_prepared(rows).cache_files[0]["filename"]).parent
    left = folder.rename(folder.with_name(f".{folder.name}.moored-abcd1234"))
    _prepared(rows)
    assert folder.exists() and not left.exists()


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(InputError, match=r"Cannot write the cache .*set HF_DATASETS_CACHE to another\.$"):
        _prepared(_file(tmp_path, KINDS))


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_full_disk_is_one_sentence(tmp_path, num_proc):
    rows, limits = _file(tmp_path, KINDS * 20), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"Cannot write .*cache.*File too large; free space"):
            _prepared(rows, num_proc=num_proc)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(list((tmp_path / "cache" / "moored").iterdir())) == 1  # the lock


class Counted(dict):
    """A row that is counted while it is in memory."""

    alive, most = 0, 0

    def __init__(self, *given):
        super().__init__(*given)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        Counted.alive -= 1


@pytest.mark.parametrize("num_proc", [1, 2])
def test_only_a_few_rows_are_in_memory(num_proc):
    Counted.most = 0
    read = partial(map, Counted, [KINDS[0]] * 300)
    rows = RowStream(name="rows", features=None, read=read, digest=lambda: "")
    assert len(_prepared(rows, num_proc=num_proc)) == 300
    assert 6 <= Counted.most < 50


def test_few_rows_stay_in_memory(tmp_path):
    alone = supervise(KINDS[:3], Supervision(tokenizer=tiny_tokenizer()), where="x")
    assert _prepared(_file(tmp_path, KINDS[:3])).to_list() == alone.to_list()
    assert not (tmp_path / "cache").exists()


def test_a_name_is_that_of_the_rows(tmp_path):
    rows = replace(_file(tmp_path, [*KINDS, {"x": 1}]), name="org/name")
    with pytest.raises(InputError, match="The columns of row 11 of org/name are x"):
        _prepared(rows)
