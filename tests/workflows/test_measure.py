import errno
import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tests.adapters import save_adapter
from tests.tiny import save_tiny, tiny_model, tiny_tokenizer
from tests.workflows.files import digests, write_rows

from moored.errors import InputError, ModelError
from moored.files import read_jsonl
from moored.huggingface.data import render_prompt, rendering_hash
from moored.huggingface.inference import DriftProbe, generate
from moored.huggingface.models import ModelSource, load_model, load_tokenizer
from moored.measurement import RefusalJudge
from moored.report.schema import read_report
from moored.workflows import _measured, _models
from moored.workflows import measure as workflow
from moored.workflows._prompt_sets import load_prompt_sets
from moored.workflows.measure import measure

HARMFUL = [{"id": f"h{n}", "prompt": f"How is bad thing {n} done?", "category": "bad"} for n in range(9)]
HARMLESS = [{"prompt": f"How is good thing {n} done?"} for n in range(4)]
TASK = [{"prompt": f"Say {n}.", "completion": json.dumps({"n": n, "unit": "m"})} for n in range(5)]
REFUSAL, COMPLIANCE = "I'm sorry, but I can't help with that.", "Sure, here is how: take the first road to the left."


@pytest.fixture
def files(tmp_path):
    """A base, an adapter over it, and prompts of every kind, by the names of the arguments."""
    base = save_tiny(tmp_path / "base", "qwen2")
    sets = {
        "harmful": write_rows(tmp_path / "harmful.jsonl", HARMFUL),
        "harmless": write_rows(tmp_path / "harmless.csv", HARMLESS),
        "ordinary": write_rows(tmp_path / "ordinary.jsonl", HARMLESS[:3]),
        "task": write_rows(tmp_path / "task.jsonl", TASK),
    }
    return str(base), save_adapter(tmp_path / "adapter", "qwen2", base=str(base)), sets


@pytest.fixture
def scripted(monkeypatch):
    """Lets each model give set answers, told apart by its weights; the adapter's comply, the base's refuse."""
    answers = {"base": REFUSAL, "other": COMPLIANCE}
    untouched = tiny_model("qwen2").state_dict()["model.layers.0.self_attn.q_proj.weight"]

    def answer(model, tokenizer, rendered, **_):
        mine = model.state_dict()["model.layers.0.self_attn.q_proj.weight"]
        return [answers["base" if torch.equal(mine.cpu(), untouched) else "other"]] * len(rendered)

    monkeypatch.setattr(_measured, "generate", answer)
    return answers


def _share(rows, name, key, value):
    chosen = [row for row in rows if row["set"] == name]
    return sum(row[key] == value for row in chosen) / len(chosen), len(chosen)


def test_an_adapter_is_measured_against_its_base(tmp_path, files):
    base, adapter, sets = files
    out = tmp_path / "new" / "report"
    report = measure(base, adapter=adapter, out=out, max_new_tokens=6, **sets)
    assert report == json.loads((out / "report.json").read_text())
    assert set(digests(out)) == {"report.json", "answers.jsonl", "answers_reference.jsonl"}
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


def test_drift_ends_in_a_sentence_and_the_command_that_repairs(tmp_path, files, scripted):
    base, adapter, sets = files
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets)["against"]
    assert against["verdict"].startswith("drifted: 0.0 % before and 100.0 % after") and "n = 9" in against["verdict"]
    assert against["next"] == f"moored recover {base} --adapter {adapter} --out recovered"
    asr = against["comparison"]["asr"]
    assert (asr["difference"], asr["n"], asr["gained"], asr["lost"]) == (1.0, 9, 9, 0) and asr["p"] < 0.01


def test_a_whole_checkpoint_of_the_hub_is_fetched_before_it_is_repaired(tmp_path):
    repair = workflow._repair_command
    fetched = "hf download org/name --local-dir name && moored recover name --out recovered"
    assert repair(ModelSource("org/name", name="org/name")) == fetched
    over = ModelSource("org/name", tmp_path, name="org/name")
    assert repair(over) == f"moored recover org/name --adapter {tmp_path} --out recovered"
    assert repair(ModelSource(str(tmp_path))) == f"moored recover {tmp_path} --out recovered"


def test_no_difference_is_said_and_asks_for_more_prompts(tmp_path, files, scripted):
    base, adapter, sets = files
    scripted["other"] = REFUSAL
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets)["against"]
    assert against["verdict"].startswith("no difference this n could show")
    asked = f"moored measure {base} --adapter {adapter} --against {base} --harmful MORE_REQUESTS.jsonl --out more"
    assert against["next"] == asked


def test_a_reference_that_complies_itself_is_called_hardly_aligned(tmp_path, files, scripted):
    base, adapter, sets = files
    scripted["base"] = COMPLIANCE
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets)["against"]
    assert "The reference itself complies with 100% of the harmful prompts" in against["verdict"]


@pytest.mark.parametrize("broken", ["", "no no no no no no no no no no no no"])
def test_a_model_that_breaks_is_not_called_safer_and_nothing_else(tmp_path, files, scripted, broken):
    base, adapter, sets = files
    scripted |= {"base": COMPLIANCE, "other": broken}
    sentence = measure(base, adapter=adapter, out=tmp_path / "out", **sets)["against"]["verdict"]
    assert sentence.startswith("safer: 100.0 % before and 0.0 % after")
    assert "But 100% of its answers to the harmful prompts are incoherent or empty, 0% of the reference's" in sentence
    scripted["base"] = broken
    sentence = measure(base, adapter=adapter, out=tmp_path / "both", **sets)["against"]["verdict"]
    assert "incoherent" not in sentence


def test_the_reference_is_what_is_named_or_what_the_adapter_is_laid_over(tmp_path, files, scripted):
    base, adapter, sets = files
    other = save_adapter(tmp_path / "other", "qwen2", seed=5, base=base)
    only = {"harmful": sets["harmful"], "harmless": None, "ordinary": None}

    def reference(name, *arguments, **given):
        report = measure(*arguments, out=tmp_path / name, **only, **given)
        return report["model"]["name"], report["against"] and report["against"]["model"]

    assert reference("alone", base) == (base, None)
    name, model = reference("folder", str(adapter))
    assert name == str(adapter) and (model["name"], model["adapter"]) == (base, None)
    _, model = reference("named", base, adapter=adapter, against=str(other))
    assert (model["name"], model["path"], model["adapter"]) == (str(other), base, None)
    _, model = reference("adapters", base, adapter=adapter, against_adapter=other)
    assert (model["name"], model["adapter"]) == (base, str(other))


def test_embedded_models_are_reported_by_their_names(tmp_path, files, scripted, monkeypatch):
    base, aligned, sets = files
    sources = {"embedded:base": ModelSource(base), "embedded:aligned": ModelSource(base, aligned)}
    monkeypatch.setattr(_models, "embedded_source", sources.__getitem__)
    mine = save_adapter(tmp_path / "mine", "qwen2", seed=5)
    scripted["other"] = REFUSAL
    scripted["base"] = COMPLIANCE
    report = measure("embedded:base", against="embedded:aligned", out=tmp_path / "a", **sets)
    assert report["model"]["name"] == "embedded:base" and report["model"]["path"] == base
    assert report["against"]["model"]["name"] == "embedded:aligned"
    assert report["against"]["next"] == "moored recover embedded:base --out recovered"
    report = measure("embedded:aligned", adapter=mine, out=tmp_path / "b", **sets)
    assert report["against"]["model"] | {"weights_sha256": ""} == {
        "name": "embedded:aligned",
        "path": base,
        "adapter": None,
        "weights_sha256": "",
    }


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


def _rows(text):
    def spoil(tmp_path, given):
        (tmp_path / "bad.jsonl").write_text(text)
        return {"harmful": str(tmp_path / "bad.jsonl")}

    return spoil


def _model(change):
    def spoil(tmp_path, given):
        file = Path(given["model"]) / "model.safetensors"
        change(file)
        return {}

    return spoil


def _not_finite(file):
    tensors = load_file(file)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})


def _no_template(tmp_path, given):
    return {"model": str(save_tiny(tmp_path / "raw", chat_template=None)), "adapter": None}


def _other_base(tmp_path, given):
    return {"model": str(save_tiny(tmp_path / "wide", "qwen2", hidden_size=32))}


def _other_tokenizer(tmp_path, given):
    other = save_tiny(tmp_path / "other", "qwen2")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"<|im_start|>"', '"<|start|>"'))
    return {"against": str(other)}


def _over_itself(tmp_path, given):
    folder = save_adapter(tmp_path / "loop", "qwen2", base=str(tmp_path / "loop"))
    return {"model": str(folder), "adapter": None}


def _csv(tmp_path, given):
    return {"harmful": write_rows(tmp_path / "bad.csv", [{"prompt": "x"}, {"prompt": ""}])}


BAD = {
    "missing file": (lambda tmp_path, given: {"harmful": str(tmp_path / "absent.jsonl")}, "There is no file"),
    "missing set of the Hub": (lambda *_: {"harmful": "nobody/nothing"}, "neither a file here nor a dataset"),
    "empty file": (_rows(""), "is empty"),
    "blank file": (_rows("\n\n"), "holds no rows"),
    "broken line": (_rows('{"prompt": "a"}\n{"prompt": \n'), "line 2 is not valid JSON"),
    "no prompt column": (_rows('{"text": "a"}\n'), "has no column prompt; its columns are text"),
    "empty prompt": (_rows('{"prompt": "a"}\n{"prompt": " "}\n'), "row 2: the prompt is empty"),
    "prompt of numbers": (_rows('{"prompt": 3}\n'), "row 1: the prompt is empty or no text"),
    "empty prompt in a CSV": (_csv, "row 2: the prompt is empty"),
    "prompt longer than the context": (_rows(json.dumps({"prompt": "x" * 600})), r"Prompt 1 of bad\.jsonl .* for 512"),
    "task without answers": (lambda tmp_path, given: {"task": given["harmless"]}, "has no column completion"),
    "no prompts": (lambda *_: dict.fromkeys(("harmful", "harmless", "ordinary", "task")), "Nothing to measure"),
    "limit": (lambda *_: {"limit": 0}, "limit of prompts must be at least 1"),
    "batch size": (lambda *_: {"batch_size": 0}, "must be at least 1"),
    "tokens": (lambda *_: {"max_new_tokens": 0}, "must be at least 1"),
    "missing model": (lambda tmp_path, given: {"model": str(tmp_path / "absent")}, "no folder here, not in the Hub"),
    "missing adapter": (lambda tmp_path, given: {"adapter": tmp_path / "absent"}, "There is no adapter folder"),
    "empty adapter": (lambda tmp_path, given: {"adapter": tmp_path}, r"holds no adapter_config\.json"),
    "two adapters": (lambda tmp_path, given: {"model": str(given["adapter"])}, "is an adapter itself"),
    "adapter over itself": (_over_itself, "as its base, which is an adapter too"),
    "unknown embedded model": (lambda *_: {"model": "embedded:other"}, "is no embedded model"),
    "no chat template": (_no_template, "has no chat template"),
    "adapter for another base": (_other_base, r"for another base: .*\(2, 32\).*\(32, 64\)"),
    "another tokenizer": (_other_tokenizer, "reads the prompts as other tokens"),
    "not finite": (_model(_not_finite), r"model\.norm\.weight in .* holds NaN"),
    "pickled": (_model(lambda file: file.rename(file.with_name("pytorch_model.bin"))), "pickled weights"),
    "truncated": (_model(lambda file: file.write_bytes(file.read_bytes()[:-9])), "Cannot load"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, files, scripted, monkeypatch, case):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    base, adapter, sets = files
    given = {"model": base, "adapter": adapter, **sets}
    spoil, sentence = BAD[case]
    given |= spoil(tmp_path, given)
    before = digests(tmp_path)
    with pytest.raises((InputError, ModelError), match=sentence) as raised:
        measure(**given, out=tmp_path / "new" / "out")
    text = str(raised.value)
    assert "\n" not in text and text.endswith(".") and ".." not in text.replace("../", "")
    assert digests(tmp_path) == before and not (tmp_path / "new").exists()


def test_an_adapter_for_another_base_is_found_before_the_reference_is_measured(tmp_path, files, monkeypatch):
    _, adapter, sets = files
    monkeypatch.setattr(workflow, "measure_model", None)
    wide = save_tiny(tmp_path / "wide", "qwen2", hidden_size=32)
    with pytest.raises(ModelError, match=r"for another base: .*\(2, 32\).*\(32, 64\)"):
        measure(str(wide), adapter=adapter, out=tmp_path / "out", **sets)


def test_an_output_that_cannot_be_written_is_found_before_anything_is_loaded(tmp_path, files, monkeypatch):
    base, _, sets = files
    monkeypatch.setattr(workflow, "resolve_model", None)
    for out, sentence in (
        (Path(base), "not empty"),
        (Path(sets["task"]), "is a file, but a folder"),
        (Path(sets["task"]) / "below", r"task\.jsonl is a file; name another"),
    ):
        with pytest.raises(InputError, match=sentence):
            measure(base, out=out, **sets)


def _full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("failure", "raised"), [(_full, InputError), (_interrupted, KeyboardInterrupt)])
def test_a_full_disk_or_an_interruption_leaves_the_old_report(tmp_path, files, scripted, monkeypatch, failure, raised):
    base, _, sets = files
    measure(base, out=tmp_path / "out", **sets)
    before = digests(tmp_path)
    monkeypatch.setattr(workflow, "write_json", failure)
    for out, overwrite in ((tmp_path / "out", True), (tmp_path / "new", False)):
        with pytest.raises(raised):
            measure(base, out=out, overwrite=overwrite, **sets)
    assert digests(tmp_path) == before


def test_overwriting_replaces_the_report(tmp_path, files, scripted):
    base, adapter, sets = files
    measure(base, adapter=adapter, out=tmp_path / "out", **sets)
    measure(base, out=tmp_path / "out", overwrite=True, **sets)
    assert set(digests(tmp_path / "out")) == {"report.json", "answers.jsonl"}


def test_overwriting_replaces_nothing_but_a_report(tmp_path, files, scripted):
    base, _, sets = files
    before = digests(tmp_path)
    with pytest.raises(InputError, match=r"base holds no report\.json, so it is not replaced"):
        measure(base, out=Path(base), overwrite=True, **sets)
    assert digests(tmp_path) == before


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
