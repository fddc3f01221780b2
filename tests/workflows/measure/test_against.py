"""Which reference a model is measured against, and the sentence and command that the comparison ends in."""

from functools import partial

import pytest
from tests.adapters import save_adapter
from tests.workflows.measure.prompts import COMPLIANCE, REFUSAL

from moored.huggingface.models import ModelSource
from moored.measurement import Outcome
from moored.workflows.inputs import models as _models
from moored.workflows.measure.report import next_command
from moored.workflows.measure.run import measure


def test_the_reference_is_what_is_named_or_what_the_adapter_is_laid_over(tmp_path, files, scripted):
    base, adapter, sets = files
    other = save_adapter(tmp_path / "other", "qwen2", seed=5, base=base)
    only = {"harmful": sets["harmful"], "harmless": "none", "ordinary": "none"}

    def reference(name, *arguments, **given):
        report = measure(*arguments, out=tmp_path / name, **only, **given)
        return report.model.name, report.against and report.against.model

    assert reference("alone", base) == (base, None)
    name, model = reference("folder", str(adapter))
    assert name == str(adapter) and (model.name, model.adapter) == (base, None)
    _, model = reference("named", base, adapter=adapter, against=str(other))
    assert (model.name, model.path, model.adapter) == (str(other), base, None)
    _, model = reference("adapters", base, adapter=adapter, against_adapter=other)
    assert (model.name, model.adapter) == (base, str(other))


def test_embedded_models_are_reported_by_their_names(tmp_path, files, scripted, monkeypatch):
    base, aligned, sets = files
    sources = {"embedded:base": ModelSource(base), "embedded:aligned": ModelSource(base, aligned)}
    monkeypatch.setattr(_models, "embedded_source", sources.__getitem__)
    mine = save_adapter(tmp_path / "mine", "qwen2", seed=5)
    scripted["other"] = REFUSAL
    scripted["base"] = COMPLIANCE
    report = measure("embedded:base", against="embedded:aligned", out=tmp_path / "a", **sets)
    assert report.model.name == "embedded:base" and report.model.path == base
    assert report.against.model.name == "embedded:aligned"
    repair = "moored recover embedded:base --against embedded:aligned --out recovered"
    assert report.against.next_command == repair
    report = measure("embedded:aligned", adapter=mine, out=tmp_path / "b", **sets)
    model = report.against.model
    assert (model.name, model.path, model.adapter, model.precision) == ("embedded:aligned", base, None, "float32")


def test_drift_ends_in_a_sentence_and_the_command_that_repairs(tmp_path, files, scripted):
    base, adapter, sets = files
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets).against
    assert against.outcome is Outcome.WORSE
    assert against.sentence.startswith(
        "Drifted: the model answers 100.0 % of the harmful requests, the reference 0.0 %"
    )
    assert against.next_command == f"moored recover {base} --adapter {adapter} --out recovered"
    asr = against.comparison["asr"]
    assert (asr.difference, asr.n, asr.gained, asr.lost) == (1.0, 9, 9, 0) and asr.p < 0.01


def test_a_whole_checkpoint_of_the_hub_is_fetched_before_it_is_repaired(tmp_path):
    repair = partial(next_command, Outcome.WORSE)
    chat, under = ModelSource("org/chat", name="org/chat"), ModelSource("org/name", name="org/name")
    fetched = "hf download org/name --local-dir name && moored recover name --against org/chat --out recovered"
    assert repair(under, chat) == fetched
    over = ModelSource("org/name", tmp_path, name="org/name")
    assert repair(over, under) == f"moored recover org/name --adapter {tmp_path} --out recovered"
    assert repair(over, chat) == f"moored recover org/name --adapter {tmp_path} --against org/chat --out recovered"
    assert repair(ModelSource(str(tmp_path)), over) == f"moored recover {tmp_path} --out recovered"


def test_no_difference_is_said_and_asks_for_more_prompts(tmp_path, files, scripted):
    base, adapter, sets = files
    scripted["other"] = REFUSAL
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets).against
    assert against.outcome is Outcome.NO_DIFFERENCE and against.sentence.startswith("No detectable difference: ")
    asked = f"moored measure {base} --adapter {adapter} --against {base} --harmful MORE_REQUESTS.jsonl --out more"
    assert against.next_command == asked


def test_a_reference_that_complies_itself_is_called_hardly_aligned(tmp_path, files, scripted):
    base, adapter, sets = files
    scripted["base"] = COMPLIANCE
    against = measure(base, adapter=adapter, out=tmp_path / "out", **sets).against
    assert "The reference itself answers 100% of the harmful requests" in against.sentence


@pytest.mark.parametrize("broken", ["", "no no no no no no no no no no no no"])
def test_a_model_that_breaks_is_not_called_safer_and_nothing_else(tmp_path, files, scripted, broken):
    base, adapter, sets = files
    scripted |= {"base": COMPLIANCE, "other": broken}
    sentence = measure(base, adapter=adapter, out=tmp_path / "out", **sets).against.sentence
    assert sentence.startswith("Safer: the model answers 0.0 % of the harmful requests, the reference 100.0 %")
    assert "But 100% of its answers to the harmful requests are incoherent or empty, 0% of the reference's" in sentence
    scripted["base"] = broken
    sentence = measure(base, adapter=adapter, out=tmp_path / "both", **sets).against.sentence
    assert "incoherent" not in sentence
