import json
import weakref
from dataclasses import replace

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import yaml
from datasets import load_from_disk
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs
from tests.tiny import CHATML_WITH_SYSTEM, save_tiny, tiny_model, tiny_tokenizer
from tests.workflows.files import digests, write_rows

from moored.errors import InactiveError, InputError, ModelError
from moored.huggingface.data import read_rows, stream
from moored.huggingface.gradients.dataset_scores import score_chunk
from moored.report.reading.record import read_record
from moored.report.reading.selection import SelectReport
from moored.selection import RULES, Moderate
from moored.workflows.records import provenance as _provenance
from moored.workflows.select import run as workflow
from moored.workflows.select.run import select
from moored.workflows.train.run import train

pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]
_ = light_runs

ROWS = [
    {
        "prompt": f"What is {n} and {n}?",
        "completion": "It is sunny. " * (1 + n * 5 % 7),
        **({"note": n} if n > 3 else {}),
    }
    for n in range(23)
]
FILES = {"scored.jsonl", "kept.jsonl", "kept_indices.json", "report.json", "index.html"}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Writes a model and rows; calling it selects with some settings changed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    # Both take longer than all the rest; the command's tests run them.
    monkeypatch.setattr(_provenance, "versions", lambda: {"torch": torch.__version__})
    monkeypatch.setattr(workflow, "render_selection", lambda report, out: (out / "index.html").write_text("a page"))
    save_tiny(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl", ROWS)

    def run(*, data="rows.jsonl", model="model", out="out", adapter=None, resume=False, **changes):
        settings = {"chunk_rows": 8, "batch_size": 3, "keep": 0.3, **changes}
        return select(data, model=model, out=tmp_path / out, adapter=adapter, resume=resume, **settings)

    return run


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def row_alone(model, row, max_length=10**6):
    """Loss, norm and length of one row by a plain backward pass; rendered by hand."""
    tokenizer = tiny_tokenizer()
    prompt = f"<|im_start|>user\n{row['prompt']}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(f"{prompt}{row['completion']}<|im_end|>\n")["input_ids"][:max_length]
    start = len(tokenizer(prompt)["input_ids"])
    model.zero_grad()
    loss = torch.nn.functional.cross_entropy(
        model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1], torch.tensor(ids[start:])
    )
    loss.backward()
    return loss.item(), sum(p.grad.square().sum() for p in model.parameters()).sqrt().item(), len(ids) - start


def test_the_kept_rows_are_those_of_the_rule_on_scores_of_one_row_at_a_time(job, tmp_path):
    report = job()
    model = tiny_model()
    losses, norms, lengths = map(torch.tensor, zip(*(row_alone(model, row) for row in ROWS), strict=True))
    expected = Moderate(keep=0.3)(losses, norms, lengths).tolist()
    out = tmp_path / "out"
    scored = lines(out / "scored.jsonl")
    assert [row["moored_loss"] for row in scored] == pytest.approx(losses.tolist(), rel=1e-4)
    assert [row["moored_gradient_norm"] for row in scored] == pytest.approx(norms.tolist(), rel=1e-4)
    assert [row["moored_tokens"] for row in scored] == lengths.tolist()
    assert json.loads((out / "kept_indices.json").read_text()) == expected and len(expected) == 6
    assert lines(out / "kept.jsonl") == [ROWS[n] for n in expected]
    assert [n for n, row in enumerate(scored) if row["moored_kept"]] == expected
    own = {"moored_loss", "moored_gradient_norm", "moored_tokens", "moored_kept"}
    assert [{key: row[key] for key in row.keys() - own} for row in scored] == ROWS
    assert {path.name for path in out.iterdir()} == FILES
    assert read_record(SelectReport, out) == report


def test_the_report_says_what_was_done_and_found(job):
    report = job(rule="low")
    assert report.finished and report.model.name == "model"
    assert report.settings["rule"] == "low" and report.settings["max_length"] == 512  # the tiny model's positions
    assert vars(report.found.rows) == {
        "all": 23, "scored": 23, "without_supervised_token": 0, "cut_at_max_length": 0, "kept": 6,
    }  # fmt: skip
    assert [*report.found.overlap] == [name for name in RULES if name != "low"]
    histogram, norms = report.found.histogram, report.found.quantiles["norm"]
    assert sum(histogram.all) == 23 and sum(histogram.kept) == 6
    assert histogram.edges[0] < norms.all.min and histogram.edges[-1] > norms.all.max
    assert norms.kept.min == norms.all.min < norms.kept.max < norms.all.median
    assert len(report.found.points) == 23 and sum(point[2] for point in report.found.points) == 6
    confound = report.found.length_confound
    assert confound.norm_and_tokens.n == 23 and confound.kept_longer_than_left_out.n == [6, 17]
    shown = report.examples
    assert [row.norm for row in shown["lowest"]] == sorted(point[1] for point in report.found.points)[:5]
    assert shown["highest"][0].norm == norms.all.max and not shown["highest"][0].kept
    assert all(row.kept for row in shown["kept_middle"]) and len(shown["kept_middle"]) == 5
    first = shown["lowest"][0]
    assert (first.prompt, first.answer) == tuple(ROWS[first.index].values())[:2]


@pytest.mark.parametrize("chunk_rows", [5, 100])
def test_the_size_of_the_chunks_does_not_matter(job, tmp_path, chunk_rows):
    job(out="a")
    job(out="b", chunk_rows=chunk_rows)
    one, other = (lines(tmp_path / out / "scored.jsonl") for out in "ab")
    assert [row["moored_kept"] for row in one] == [row["moored_kept"] for row in other]
    for name in ("moored_loss", "moored_gradient_norm"):
        assert [row[name] for row in one] == pytest.approx([row[name] for row in other], rel=1e-5)


class Killed(BaseException):
    """As a Ctrl-C: no ordinary exception."""


def _killed(monkeypatch, after):
    """Stops the run before chunk number `after` is scored; the list that comes back counts the chunks scored."""
    seen, score = [], workflow.score_chunk

    def scored(*args, **kwargs):
        if len(seen) == after:
            raise Killed
        seen.append(kwargs["first"])
        return score(*args, **kwargs)

    monkeypatch.setattr(workflow, "score_chunk", scored)
    return seen


def test_a_resumed_run_has_the_same_bits(job, tmp_path, monkeypatch):
    whole = job(out="whole", parameters="lora")
    with monkeypatch.context() as patched:
        _killed(patched, after=1)
        with pytest.raises(Killed):
            job(parameters="lora")
    assert not (tmp_path / "out" / "kept.jsonl").exists()
    with pytest.raises(InputError, match="is in use; continue a selection in it with --resume"):
        job(parameters="lora")
    seen = _killed(monkeypatch, after=9)
    resumed = job(parameters="lora", resume=True)
    assert seen == [9, 17]
    one, other = digests(tmp_path / "whole"), digests(tmp_path / "out")
    for name in ("scored.jsonl", "kept.jsonl", "kept_indices.json"):
        assert one[name] == other[name]
    assert replace(whole, seconds=resumed.seconds, created=resumed.created) == resumed
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES


def test_a_run_killed_while_it_writes_is_resumed_without_scoring(job, tmp_path, monkeypatch):
    job(out="whole")
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "render_selection", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            job()
    seen = _killed(monkeypatch, after=0)
    job(resume=True)
    one, other = digests(tmp_path / "whole"), digests(tmp_path / "out")
    assert seen == [] and one["scored.jsonl"] == other["scored.jsonl"]


def test_a_finished_run_is_left_as_it_is(job, tmp_path, monkeypatch):
    report, before = job(), digests(tmp_path / "out")
    monkeypatch.setattr(workflow, "scored_model", None)
    assert job(resume=True) == report
    assert digests(tmp_path / "out") == before


def _other_data(tmp_path):
    write_rows(tmp_path / "rows.jsonl", [*ROWS[1:], ROWS[0]])


def _other_weights(tmp_path):
    save_tiny(tmp_path / "model", seed=1)


def _other_template(tmp_path):
    tiny_tokenizer(CHATML_WITH_SYSTEM).save_pretrained(tmp_path / "model")


@pytest.mark.parametrize(
    ("spoil", "changes", "sentence"),
    [
        (_other_data, {}, "scored other data"),
        (_other_weights, {}, "scored the rows at other weights"),
        (_other_template, {}, "rendered the rows by another chat template"),
        (None, {"batch_size": 4}, r"another setting of batch_size \(3 then, 4 now\)"),
        (None, {"rule": "high"}, r"another setting of rule \(moderate then, high now\)"),
        (None, {"keep": 0.4}, "another setting of keep"),
        (None, {"parameters": "lora"}, "another setting of parameters"),
    ],
)
def test_resuming_another_selection_is_refused(job, tmp_path, monkeypatch, spoil, changes, sentence):
    with monkeypatch.context() as patched:
        _killed(patched, after=1)
        with pytest.raises(Killed):
            job()
    if spoil is not None:
        spoil(tmp_path)
    before = digests(tmp_path / "out")
    with pytest.raises(InputError, match=sentence) as caught:
        job(resume=True, **changes)
    assert "\n" not in str(caught.value) and digests(tmp_path / "out") == before


def test_resuming_takes_another_name_of_the_same_data_and_an_empty_folder(job, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    _killed(monkeypatch, after=1)
    with pytest.raises(Killed):
        job(resume=True)
    monkeypatch.setattr(workflow, "score_chunk", score_chunk)
    (tmp_path / "rows.jsonl").rename(tmp_path / "moved.jsonl")
    assert job(data=str(tmp_path / "moved.jsonl"), model=str(tmp_path / "model"), resume=True).finished


def test_what_is_not_ours_is_not_resumed(job, tmp_path):
    (tmp_path / "out").mkdir()
    for content in ('{"schema": 1, "kind": "measure"}', '{"schema": 2, "kind": "select"}', "[]", "{"):
        (tmp_path / "out" / "report.json").write_text(content)
        with pytest.raises(InputError, match=r"report\.json") as caught:
            job(resume=True)
        assert "\n" not in str(caught.value)
    (tmp_path / "out" / "report.json").rename(tmp_path / "out" / "mine")
    with pytest.raises(InputError, match="not empty"):
        job(resume=True)


def test_a_broken_score_file_is_one_sentence(job, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        _killed(patched, after=2)
        with pytest.raises(Killed):
            job()
    (tmp_path / "out" / "scores" / "0000001.safetensors").write_bytes(b"half")
    with pytest.raises(
        InputError, match=r"0000001.safetensors cannot be read .*; delete it and continue with --resume"
    ):
        job(resume=True)


def test_only_a_chunk_of_rows_is_in_memory(job, tmp_path, monkeypatch):
    write_rows(tmp_path / "many.jsonl", [{"prompt": f"{n}?", "completion": "No."} for n in range(60)])
    live, most = set(), []

    class Tracked(dict):
        pass

    def tracked(path, read=stream.iterate_jsonl):
        for row in map(Tracked, read(path)):
            live.add(id(row))
            weakref.finalize(row, live.discard, id(row))
            most.append(len(live))
            yield row

    monkeypatch.setattr(stream, "iterate_jsonl", tracked)
    report = job(data="many.jsonl", chunk_rows=6)
    # The survey, the scoring, both files of rows and the search for examples each go through all of them.
    assert report.found.rows.all == 60 and len(most) == 5 * 60
    # Two chunks while the second is read; then the rows that are shown as examples.
    assert max(most[: 4 * 60]) <= 2 * 6 + 1 and max(most[4 * 60 :]) <= 15 + 2


def test_rows_without_anything_to_learn_count_and_are_never_kept(job, tmp_path):
    rows = [{**row, "prompt": "word " * 90} if n % 2 else row for n, row in enumerate(ROWS)]
    write_rows(tmp_path / "rows.jsonl", rows)
    report = job(keep=0.9, max_length=60)
    assert report.found.rows.without_supervised_token == 11 and report.found.rows.kept == 12
    scored = lines(tmp_path / "out" / "scored.jsonl")
    assert [row["moored_loss"] is None and row["moored_gradient_norm"] is None for row in scored] == [
        bool(n % 2) for n in range(23)
    ]
    assert all(not row["moored_kept"] and row["moored_tokens"] == 0 for row in scored[1::2])
    assert report.found.rows.cut_at_max_length == 11 and report.found.histogram.all == report.found.histogram.kept
    assert job(out="all", keep=1.0, max_length=60).found.rows.kept == 12
    with pytest.raises(InactiveError, match=r"None of the 23 rows of rows.jsonl has a supervised token"):
        job(out="none", max_length=5)


@pytest.mark.parametrize("form", ["jsonl", "datasets"])
def test_the_kept_rows_can_be_trained_on(job, tmp_path, form):
    report = job(format=form)
    kept = tmp_path / "out" / report.files.kept
    indices = json.loads((tmp_path / "out" / "kept_indices.json").read_text())
    assert [row["prompt"] for row in read_rows(kept)] == [ROWS[n]["prompt"] for n in indices]
    keys = {"model": "model", "dataset": str(kept), "output_dir": "trained", "max_steps": 1, "use_cpu": True}
    keys |= {"bf16": False, "activation_checkpointing": False, "disable_tqdm": True, "lora": {"r": 2}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(keys))
    assert train(tmp_path / "run.yaml").data.rows == 6


def test_both_formats_hold_the_same(job, tmp_path):
    report = job(format="datasets")
    job(out="lines")
    assert vars(report.files) == {"scored": "scored", "kept": "kept", "kept_indices": "kept_indices.json"}
    for name in ("scored", "kept"):
        table = load_from_disk(tmp_path / "out" / name).to_list()
        given = lines(tmp_path / "lines" / f"{name}.jsonl")
        assert table == [{**dict.fromkeys(table[0]), **row} for row in given]


def test_what_json_cannot_hold_is_refused_before_anything_is_scored(job, tmp_path, monkeypatch):
    table = pa.Table.from_pylist([{**ROWS[n], "raw": b"x"} for n in range(9)])
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    with monkeypatch.context() as patched:
        patched.setattr(workflow, "scored_model", None)
        with pytest.raises(InputError, match=r"The column raw of rows.parquet cannot be written as JSON; use --format"):
            job(data="rows.parquet")
    report = job(data="rows.parquet", format="datasets")
    assert load_from_disk(tmp_path / "out" / "kept")["raw"] == [b"x"] * report.found.rows.kept


def _lines(text):
    return lambda path: path.write_text(text)


def _same(path):
    pass


CHAT = '{"messages": [{"role": "user", "content": "a"}]}\n'
BAD = {
    "a broken line": (_lines('{"prompt": "a"}\n\n{"prompt"\n'), {}, "rows.jsonl, line 3 is not valid JSON"),
    "other columns": (_lines('{"question": "a"}\n'), {}, "The columns of row 1 of .*rows.jsonl are question"),
    "our columns": (_lines('{"text": "a", "moored_loss": 1}\n'), {}, "has a column moored_loss already"),
    "a broken row": (_lines(3 * CHAT + '{"messages": []}\n'), {}, "The column messages in row 4 of rows.jsonl"),
    "no table": (_lines('{"text": 1}\n{"text": "x"}\n'), {"format": "datasets"}, "do not make a table"),
    "no data": (lambda path: path.unlink(), {}, "There is no file"),
    "no model": (_same, {"model": "absent/model"}, "absent/model"),
    "another rule": (_same, {"rule": "best"}, "There is no selection rule best"),
    "too much": (_same, {"keep": 1.5}, "above 0 and at most 1"),
    "other weights": (_same, {"parameters": "some"}, "parameters is 'some', but it must be all, lora"),
    "no tokens": (_same, {"max_length": 1}, "max_length must be at least 2, got 1"),
    "no batch": (_same, {"batch_size": 0}, "batch_size must be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(job, tmp_path, case):
    spoil, changes, sentence = BAD[case]
    spoil(tmp_path / "rows.jsonl")
    with pytest.raises((InputError, ModelError), match=sentence) as caught:
        job(**changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_a_row_is_named_by_its_number_in_the_file(job, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [*ROWS[:17], {"prompt": "a", "completion": None}, *ROWS[18:]])
    with pytest.raises(InputError, match=r"row 18 of rows.jsonl"):
        job()


def test_a_used_folder_is_refused_before_anything_is_read(job, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    monkeypatch.setattr(workflow, "open_rows", None)
    with pytest.raises(InputError, match="not empty"):
        job()
