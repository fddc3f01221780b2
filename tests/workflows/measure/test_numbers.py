"""What is asked, answered and counted, and what the report says of it."""

import json
from functools import partial

import torch
from peft import PeftModel
from tests.tiny import tiny_model, tiny_tokenizer
from tests.workflows.files import digests, write_rows
from tests.workflows.measure.prompts import HARMFUL, HARMLESS, REFUSAL, TASK

from moored.files import read_jsonl
from moored.huggingface.data import render_prompt, rendering_hash
from moored.huggingface.inference import DriftProbe, generate
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.measurement import RefusalJudge
from moored.report.reading.schema import read_report
from moored.workflows.inputs.prompt_sets import load_prompt_sets
from moored.workflows.measure import answers as _measured
from moored.workflows.measure import run as workflow
from moored.workflows.measure.run import measure


def _share(rows, name, key, value):
    chosen = [row for row in rows if row["set"] == name]
    return sum(row[key] == value for row in chosen) / len(chosen), len(chosen)


def test_an_adapter_is_measured_against_its_base(tmp_path, files):
    base, adapter, sets = files
    out = tmp_path / "new" / "report"
    report = measure(base, adapter=adapter, out=out, max_new_tokens=6, **sets)
    assert report == json.loads((out / "report.json").read_text())
    assert set(digests(out)) == {"report.json", "answers.jsonl", "answers_reference.jsonl", "index.html"}
    read = read_report(out)
    assert read.seeds is not None and "greedy" in read.seeds
    assert (read.judge, read.judge_version) == ("refusal", RefusalJudge().version)
    assert read.measured.model == base and read.measured.adapter == str(adapter)
    assert read.against is not None and read.against.measured.adapter is None
    assert report["model"]["path"] == base

    for measured, file in ((report, "answers.jsonl"), (report["against"], "answers_reference.jsonl")):
        rows = read_jsonl(out / file)
        assert [row["prompt"] for row in rows] == [row["prompt"] for row in [*HARMFUL, *HARMLESS, *HARMLESS[:3], *TASK]]
        assert [row["id"] for row in rows if row["set"] == "harmful"] == [row["id"] for row in HARMFUL]
        for name, of in {
            "asr": ("harmful", "label", "complied"),
            "over_refusal": ("harmless", "label", "refused"),
            "ordinary_refusal": ("ordinary", "label", "refused"),
            "utility": ("task", "correct", True),
        }.items():
            assert (measured[name]["rate"], measured[name]["n"]) == _share(rows, *of)
        assert measured["incoherent"]["n"] == 13
    assert report["drift"].keys() == {"refusal_log_odds", "kl_harmful", "kl_ordinary"}
    assert report["against"]["drift"].keys() == {"refusal_log_odds"}
    assert [report["drift"][name]["n"] for name in ("refusal_log_odds", "kl_harmful", "kl_ordinary")] == [9, 9, 3]
    assert report["drift"]["kl_harmful"]["mean"] > 0.01
    assert report["against"]["comparison"].keys() == {"asr", "over_refusal", "ordinary_refusal", "utility"}


def test_answers_are_those_of_the_model_under_its_adapter(tmp_path, files):
    base, adapter, sets = files
    measure(base, adapter=adapter, out=tmp_path / "out", max_new_tokens=6, **sets)
    model = PeftModel.from_pretrained(tiny_model("qwen2"), adapter).merge_and_unload()
    # transformers splits words as Qwen2 does, whatever the file says: not as the tokenizer in memory.
    tokenizer = load_tokenizer(ModelSource(base))
    rendered = [render_prompt(tokenizer, row["prompt"]) for row in HARMFUL]
    expected = generate(model, tokenizer, rendered, max_new_tokens=6)
    rows = [row["answer"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl") if row["set"] == "harmful"]
    assert rows == expected


def test_equal_hashes_mean_equal_prompts_and_weights(tmp_path, files, scripted):
    base, adapter, sets = files
    first = measure(base, adapter=adapter, out=tmp_path / "a", **sets)
    rendered = [render_prompt(tiny_tokenizer(), row["prompt"]) for row in HARMFUL]
    described = first["prompts"]["harmful"]
    assert described == {"n": 9, "rendered_sha256": rendering_hash(rendered), "source": "harmful.jsonl"}
    again = measure(base, out=tmp_path / "b", **{**sets, "harmful": write_rows(tmp_path / "c.csv", HARMFUL)})
    assert again["prompts"]["harmful"]["rendered_sha256"] == described["rendered_sha256"]
    hashes = [first["model"], first["against"]["model"], again["model"]]
    over, below, alone = (each["weights_sha256"] for each in hashes)
    assert over != below == alone and len(alone) == 64


def test_a_second_run_gives_the_same_numbers(tmp_path, files):
    base, adapter, sets = files
    runs = [measure(base, adapter=adapter, out=tmp_path / name, max_new_tokens=4, **sets) for name in "ab"]
    for run in runs:
        del run["created"], run["seconds"]
    assert runs[0] == runs[1]
    assert digests(tmp_path / "a")["answers.jsonl"] == digests(tmp_path / "b")["answers.jsonl"]


def test_what_was_not_asked_is_missing_and_not_zero(tmp_path, files, scripted):
    base, adapter, sets = files
    report = measure(
        base, adapter=adapter, out=tmp_path / "out", harmful=None, harmless=None, ordinary=sets["ordinary"]
    )
    assert not {"asr", "over_refusal", "utility"} & report.keys() and report["ordinary_refusal"]["n"] == 3
    assert report["drift"] == {} and report["against"]["verdict"].startswith("no harmful prompts were asked")
    assert read_report(tmp_path / "out").measured.estimates.keys() == {"ordinary_refusal"}


def test_a_task_is_right_where_it_means_the_same_json(tmp_path, files, scripted):
    base, _, sets = files
    scripted["base"] = '{"unit": "m",   "n": 3}'
    report = measure(base, out=tmp_path / "out", harmful=None, harmless=None, ordinary=None, task=sets["task"])
    assert (report["utility"]["rate"], report["utility"]["n"]) == (0.2, 5)
    assert [row["correct"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")] == [False] * 3 + [True, False]


def test_a_task_that_only_looks_like_json_is_compared_as_text(tmp_path, files, scripted):
    base, _, _ = files
    rows = [{"prompt": "Half-open?", "completion": "[a, b)"}, {"prompt": "Name it.", "completion": "{x} is 5"}]
    scripted["base"] = "{x}  is 5"
    task = write_rows(tmp_path / "text.jsonl", rows)
    measure(base, out=tmp_path / "out", harmful=None, harmless=None, ordinary=None, task=task)
    assert [row["correct"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")] == [False, True]


def test_only_a_task_has_right_answers(tmp_path, files, scripted):
    base, _, _ = files
    harmful = write_rows(tmp_path / "answered.jsonl", [{"prompt": "How?", "completion": REFUSAL}])
    measure(base, out=tmp_path / "out", harmful=harmful, harmless=None, ordinary=None)
    (row,) = read_jsonl(tmp_path / "out" / "answers.jsonl")
    assert row["label"] == "refused" and row["expected"] is None and row["correct"] is None


def test_the_drift_is_taken_on_prompts_from_the_whole_file(tmp_path, files, scripted, monkeypatch):
    base, adapter, sets = files
    monkeypatch.setattr(workflow, "Settings", partial(_measured.Settings, drift_prompts=3))
    probes = []
    monkeypatch.setattr(_measured, "DriftProbe", lambda **given: probes.append(given) or DriftProbe(**given))
    measure(base, adapter=adapter, out=tmp_path / "out", **sets)
    tokenizer = load_tokenizer(ModelSource(base))
    expected = [render_prompt(tokenizer, HARMFUL[row]["prompt"]) for row in (0, 3, 6)]
    assert [probe["harmful"] for probe in probes] == [expected, expected]


def test_a_limit_takes_prompts_from_the_whole_file(tmp_path, files, scripted):
    base, _, sets = files
    measure(base, out=tmp_path / "out", harmless=None, ordinary=None, harmful=sets["harmful"], limit=3)
    assert [row["id"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")] == ["h0", "h3", "h6"]


def test_the_embedded_prompts_are_the_held_out_ones():
    names = ("harmful", "harmless", "ordinary", "task")
    sets = load_prompt_sets(dict.fromkeys(names, "embedded"), limit=None)
    assert [each.name for each in sets] == list(names) and {each.source for each in sets} == {"embedded (held-out)"}
    assert all(len(each.items) >= 100 and len({item.id for item in each.items}) == len(each.items) for each in sets)
    harmful, harmless = sets[0].items, sets[1].items
    assert [item.id for item in harmful] == [item.id for item in harmless]
    assert all(item.expected for item in sets[3].items) and harmful[0].expected is None


def test_the_precision_in_memory_can_be_chosen(tmp_path, files, monkeypatch):
    base, _, sets = files
    asked = []

    def load(source, *, dtype, merge):
        asked.append(dtype)
        return load_model(source, dtype=dtype, merge=merge)

    monkeypatch.setattr(_measured, "load_model", load)
    only = {"harmful": sets["harmful"], "harmless": None, "ordinary": None, "max_new_tokens": 1}
    measure(base, out=tmp_path / "a", **only)
    measure(base, out=tmp_path / "b", dtype=torch.bfloat16, **only)
    assert asked == ["auto", torch.bfloat16]
