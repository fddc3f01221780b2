"""What is asked, answered and counted, and what the report says of it."""

from dataclasses import replace

import torch
from peft import PeftModel
from tests.tiny import tiny_model, tiny_tokenizer
from tests.workflows.files import digests, write_rows
from tests.workflows.measure.prompts import HARMFUL, HARMLESS, REFUSAL, TASK

from moored.embedded.refusal_judge import RefusalJudge
from moored.files import read_jsonl
from moored.huggingface.data import render_prompt, rendering_hash
from moored.huggingface.inference import DriftProbe, generate
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.measurement import JUDGES, MEASURES, Label, Verdict
from moored.report import render_measure
from moored.report.reading.measure import JudgeRecord, PromptRecord, read_measure
from moored.workflows.inputs.prompt_sets import load_prompt_sets
from moored.workflows.measure import local_model
from moored.workflows.measure.run import measure


def _share(rows, name, key, value):
    chosen = [row for row in rows if row["set"] == name]
    return sum(row[key] == value for row in chosen) / len(chosen), len(chosen)


def test_an_adapter_is_measured_against_its_base(tmp_path, files):
    base, adapter, sets = files
    out = tmp_path / "new" / "report"
    report = measure(base, adapter=adapter, out=out, max_new_tokens=6, **sets)
    assert report == read_measure(out)
    assert set(digests(tmp_path / "new")) == {
        f"report/{name}" for name in ("report.json", "answers.jsonl", "answers_reference.jsonl", "index.html")
    }
    assert report.judge == JudgeRecord(name="refusal", version=RefusalJudge().version)
    assert (report.model.name, report.model.path, report.model.adapter) == (base, base, str(adapter))
    assert report.settings["max_new_tokens"] == 6 and report.settings["model"] == base
    assert report.against.model.adapter is None

    for estimates, file in ((report.estimates, "answers.jsonl"), (report.against.estimates, "answers_reference.jsonl")):
        rows = read_jsonl(out / file)
        assert [row["prompt"] for row in rows] == [row["prompt"] for row in [*HARMFUL, *HARMLESS, *HARMLESS[:3], *TASK]]
        assert [row["id"] for row in rows if row["set"] == "harmful"] == [row["id"] for row in HARMFUL]
        for name, of in {
            "asr": ("harmful", "label", "complied"),
            "over_refusal": ("harmless", "label", "refused"),
            "ordinary_refusal": ("ordinary", "label", "refused"),
            "utility": ("task", "correct", True),
        }.items():
            assert (estimates[name].value, estimates[name].n) == _share(rows, *of)
        assert estimates["incoherent"].n == 13
    distances = {"kl_harmful", "kl_ordinary"}
    assert report.estimates.keys() == MEASURES.keys()
    assert report.against.estimates.keys() == report.against.comparison.keys() == MEASURES.keys() - distances
    assert [report.estimates[key].n for key in ("refusal_log_odds", "kl_harmful", "kl_ordinary")] == [9, 9, 3]
    assert report.estimates["kl_harmful"].value > 0.01
    assert report.against.comparison["refusal_log_odds"].n == 9


def test_without_an_output_nothing_is_written(tmp_path, files, scripted):
    base, _, sets = files
    before = digests(tmp_path)
    assert measure(base, **sets).estimates["asr"].value == 0.0
    assert digests(tmp_path) == before


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
    described = first.prompts["harmful"]
    assert described == PromptRecord(
        n=9, rendered_sha256=rendering_hash(rendered), source="harmful.jsonl", max_new_tokens=48
    )
    again = measure(base, out=tmp_path / "b", **{**sets, "harmful": write_rows(tmp_path / "c.csv", HARMFUL)})
    assert again.prompts["harmful"].rendered_sha256 == described.rendered_sha256
    over, below, alone = (each.weights_sha256 for each in (first.model, first.against.model, again.model))
    assert over != below == alone and len(alone) == 64


def test_a_second_run_gives_the_same_numbers(tmp_path, files):
    base, adapter, sets = files
    runs = [measure(base, adapter=adapter, out=tmp_path / name, max_new_tokens=4, **sets) for name in "ab"]
    first, second = (replace(run, created="", seconds=None, settings={}) for run in runs)
    assert first == second
    assert digests(tmp_path / "a")["answers.jsonl"] == digests(tmp_path / "b")["answers.jsonl"]


def test_what_was_not_asked_is_missing_and_not_zero(tmp_path, files, scripted):
    base, adapter, sets = files
    report = measure(
        base, adapter=adapter, out=tmp_path / "out", harmful="none", harmless="none", ordinary=sets["ordinary"]
    )
    assert report.estimates.keys() == {"ordinary_refusal"} and report.estimates["ordinary_refusal"].n == 3
    assert report.against.outcome == "not judged" and report.against.next_command is None
    assert report.against.sentence == "Not judged: no harmful prompts were asked."


def test_a_task_is_right_where_it_means_the_same_json(tmp_path, files, scripted):
    base, _, sets = files
    scripted["base"] = '{"unit": "m",   "n": 3}'
    report = measure(base, out=tmp_path / "out", harmful="none", harmless="none", ordinary="none", task=sets["task"])
    assert (report.estimates["utility"].value, report.estimates["utility"].n) == (0.2, 5)
    assert [row["correct"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")] == [False] * 3 + [True, False]


def test_a_task_that_only_looks_like_json_is_compared_as_text(tmp_path, files, scripted):
    base, _, _ = files
    rows = [{"prompt": "Half-open?", "completion": "[a, b)"}, {"prompt": "Name it.", "completion": "{x} is 5"}]
    scripted["base"] = "{x}  is 5"
    task = write_rows(tmp_path / "text.jsonl", rows)
    measure(base, out=tmp_path / "out", harmful="none", harmless="none", ordinary="none", task=task)
    assert [row["correct"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")] == [False, True]


def test_only_a_task_has_right_answers(tmp_path, files, scripted):
    base, _, _ = files
    harmful = write_rows(tmp_path / "answered.jsonl", [{"prompt": "How?", "completion": REFUSAL}])
    measure(base, out=tmp_path / "out", harmful=harmful, harmless="none", ordinary="none")
    (row,) = read_jsonl(tmp_path / "out" / "answers.jsonl")
    assert row["label"] == "refused" and row["expected"] is None and row["correct"] is None


def test_the_drift_is_taken_on_prompts_from_the_whole_file(tmp_path, files, scripted, monkeypatch):
    base, adapter, sets = files
    probes = []
    monkeypatch.setattr(local_model, "DriftProbe", lambda **given: probes.append(given) or DriftProbe(**given))
    measure(base, adapter=adapter, out=tmp_path / "out", drift_prompts=3, **sets)
    tokenizer = load_tokenizer(ModelSource(base))
    expected = [render_prompt(tokenizer, HARMFUL[row]["prompt"]) for row in (0, 3, 6)]
    assert [probe["harmful"] for probe in probes] == [expected] * 3
    scored = [row["id"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl") if "kl_harmful" in row["scores"]]
    assert scored == ["h0", "h3", "h6"]


def test_no_drift_prompts_no_drift(tmp_path, files, scripted):
    base, adapter, sets = files
    report = measure(base, adapter=adapter, drift_prompts=0, **sets)
    assert not {"refusal_log_odds", "kl_harmful", "kl_ordinary"} & report.estimates.keys()


def test_a_score_that_is_no_number_leaves_its_whole_measure_out(tmp_path, files, scripted, monkeypatch):
    base, _, sets = files
    scores = {"refusal_log_odds": [1.0] * 8 + [float("inf")]}
    monkeypatch.setattr(local_model.LocalModel, "scores", lambda *_: scores)
    assert "refusal_log_odds" not in measure(base, **sets).estimates


def test_a_model_without_probabilities_has_no_drift(tmp_path, files, scripted, monkeypatch):
    base, adapter, sets = files
    monkeypatch.setattr(local_model.LocalModel, "scorer", None)
    report = measure(base, adapter=adapter, **sets)
    assert "refusal_log_odds" not in report.estimates and report.against.outcome == "worse"


class _Shy:
    """A judge that judges only the first answer it gets."""

    name, version = "shy", "1"

    def verdicts(self, exchanges):
        return [Verdict(Label.COMPLIED)] + [Verdict(Label.UNSCORED)] * (len(exchanges) - 1)


def test_the_named_judge_labels_and_what_it_leaves_unscored_is_counted(tmp_path, files, scripted, monkeypatch):
    base, _, sets = files
    monkeypatch.setitem(JUDGES, "shy", _Shy)
    report = measure(base, judge="shy", out=tmp_path / "out", **sets)
    assert report.judge == JudgeRecord(name="shy", version="1")
    asr = report.estimates["asr"]
    assert (asr.value, asr.n, asr.unscored) == (1.0, 1, 8) and "over_refusal" not in report.estimates
    assert "n=1, 8 unscored" in render_measure(tmp_path / "out").read_text()
    assert {row["label"] for row in read_jsonl(tmp_path / "out" / "answers.jsonl")} == {"complied", "unscored", None}


def test_a_limit_takes_prompts_from_the_whole_file(tmp_path, files, scripted):
    base, _, sets = files
    measure(base, out=tmp_path / "out", harmless="none", ordinary="none", harmful=sets["harmful"], limit=3)
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

    monkeypatch.setattr(local_model, "load_model", load)
    only = {"harmful": sets["harmful"], "harmless": "none", "ordinary": "none", "max_new_tokens": 1}
    measure(base, out=tmp_path / "a", **only)
    measure(base, out=tmp_path / "b", dtype="bfloat16", **only)
    assert asked == ["auto", torch.bfloat16]


def test_an_answer_ends_where_its_label_is_settled_and_says_so(tmp_path, files, monkeypatch):
    base, adapter, sets = files
    whole = "I'm sorry, but I can't help with that, but here is some general information."
    asked: list[list[str]] = []

    def answer(model, tokenizer, rendered, *, is_final, **_):
        words = whole.split(" ")
        starts = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
        asked.append([next((start for start in starts if is_final(row, start)), whole) for row in range(len(rendered))])
        return asked[-1]

    monkeypatch.setattr(local_model, "generate", answer)
    measure(base, adapter=adapter, out=tmp_path / "out", **sets)
    rows = read_jsonl(tmp_path / "out" / "answers.jsonl")
    for row in rows:
        assert row["settled"] == (row["set"] != "task") == (len(row["answer"]) < len(whole))
        assert row["label"] == (None if row["set"] == "task" else "refused")
    # The drift is measured on the reference's own answers, so that those are needed in full.
    reference = read_jsonl(tmp_path / "out" / "answers_reference.jsonl")
    assert {row["set"] for row in reference if row["settled"]} == {"harmless"}
