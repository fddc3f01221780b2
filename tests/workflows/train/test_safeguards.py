"""Safeguards of a configuration: what is looked up, found and chosen for the user."""

import json

import pytest
import torch
from tests.huggingface.training.fixtures import THIRD_PARTY_WARNINGS, light_runs
from tests.tiny import save_tiny
from tests.workflows.train.test_run import job

from moored.embedded.model import ALIGNED, BASE
from moored.errors import InputError
from moored.huggingface.models import ModelSource
from moored.regularizers import AlignmentDirection, HarmfulDirection
from moored.workflows.safeguards.tokens import SafetyToken
from moored.workflows.train import safeguards as _safeguards
from moored.workflows.train.config import TrainConfig
from moored.workflows.train.safeguards import read_safeguards

_ = light_runs, job
pytestmark = [*THIRD_PARTY_WARNINGS, pytest.mark.usefixtures("light_runs")]


def _read(source, **entry):
    settings = TrainConfig(model="m", dataset="d", output_dir="o", safeguards=[entry])
    (made,) = read_safeguards(settings, source)
    return made


def test_a_run_from_the_embedded_aligned_model_follows_its_safety_adapter(tmp_path, monkeypatch):
    source = ModelSource(str(save_tiny(tmp_path / "base")), tmp_path / "safety", ALIGNED)
    monkeypatch.setattr(_safeguards, "resolve_model", lambda name: {BASE: ModelSource(source.path)}[name])
    made = _read(source, name="alignment_direction")
    assert isinstance(made, AlignmentDirection) and made.strength == 1.0
    assert (made.base, made.adapter) == (source.path, str(tmp_path / "safety"))


def test_another_base_is_compared_weight_by_weight(tmp_path):
    source = ModelSource(str(save_tiny(tmp_path / "aligned")), tmp_path / "safety", "aligned")
    made = _read(source, name="alignment_direction", base=str(save_tiny(tmp_path / "base")), strength=2)
    assert (made.base, made.adapter, made.strength) == (str(tmp_path / "base"), None, 2.0)


def test_a_base_is_asked_for_and_must_be_a_checkpoint(tmp_path, monkeypatch):
    source = ModelSource(str(tmp_path), None, "aligned")
    with pytest.raises(InputError, match="alignment_direction needs base"):
        _read(source, name="alignment_direction")
    monkeypatch.setattr(_safeguards, "resolve_model", lambda name: ModelSource("x", tmp_path))
    with pytest.raises(InputError, match="has the base tuned, which is a model with an adapter"):
        _read(source, name="alignment_direction", base="tuned")


def test_harmful_openings_are_supplied(tmp_path):
    made = _read(ModelSource(str(tmp_path)), name="harmful_direction", rank=4)
    assert isinstance(made, HarmfulDirection) and made.examples is not None and len(made.examples) == 32
    assert len({request for request, _ in made.examples}) == 32
    assert len({opening for _, opening in made.examples}) > 8
    assert "examples" not in repr(made)


TOKENS = [SafetyToken(text=text, id=0, frequency=0.5, gain=1.0, score=0.5) for text in ("I", " canno", " help")]


def test_tokens_are_found_once_and_kept_beside_the_adapter(job, monkeypatch):
    found = []
    monkeypatch.setattr(_safeguards, "find_safety_tokens", lambda *_, **__: found.append(1) or TOKENS)
    guards = [{"name": "safety_tokens", "strength": 0.5}]
    record = job(safeguards=guards)
    assert record.safeguards[0]["holds"] == 3
    file = job.folder / "out" / "safety_tokens.json"
    assert [entry["text"] for entry in json.loads(file.read_text())] == ["I", " canno", " help"]
    again = job(safeguards=guards, resume=True, max_steps=6)
    assert again.safeguards[0]["holds"] == 3 and len(found) == 1


def test_tokens_are_found_where_computing_is_fast(tmp_path, monkeypatch):
    """A device that takes weights and computes nothing stands for an accelerator."""
    found = []
    monkeypatch.setattr(_safeguards, "best_device", lambda: torch.device("meta"))
    monkeypatch.setattr(_safeguards, "find_safety_tokens", lambda model, *_, **__: found.append(model.device) or TOKENS)
    source = ModelSource(str(save_tiny(tmp_path / "model")))
    tokens = _safeguards._found(source, None, None)
    assert tokens == TOKENS and [each.type for each in found] == ["meta"]


def test_a_run_that_took_no_step_leaves_no_folder(job, monkeypatch):
    """A cache of other tokens is noticed once the trainer looks into it."""
    monkeypatch.setattr(_safeguards, "find_safety_tokens", lambda *_, **__: TOKENS)
    guards = {"name": "safety_tokens", "strength": 0.5, "cache": str(job.folder / "cache")}
    drawn = {**guards, "control": "random_tokens"}
    record = job(safeguards=[guards])
    assert record.safeguards[0]["tokens"] == ["I", " canno", " help"]
    with pytest.raises(InputError, match="is of other tokens; name another folder"):
        job(safeguards=[drawn], output_dir="again")
    assert not (job.folder / "again").exists()
    told = job(safeguards=[{**drawn, "cache": "elsewhere"}], output_dir="again").safeguards[0]["tokens"]
    assert len(told) == 3 and not set(told) & {"I", " canno", " help"}


def test_an_automatic_strength_is_searched_once_and_recorded(job, monkeypatch):
    from moored.workflows.train import auto_strength as _auto_strength

    monkeypatch.setattr(_auto_strength, "COARSE", (0.5, 2.0))
    monkeypatch.setattr(_auto_strength, "FINE", ())
    monkeypatch.setattr(_auto_strength, "_FEWEST", 1)
    monkeypatch.setitem(_auto_strength._SHORT, "max_steps", 2)
    # A random model of this size has nothing to lose.
    monkeypatch.setattr(_auto_strength, "knee", lambda start, plain, trials: max(trials))
    monkeypatch.setattr(_auto_strength, "_require_gain", lambda *_: None)
    guards = [
        {"name": "update_norm", "strength": "auto"},
        {"name": "safety_tokens", "strength": "auto", "tokens": ["I", " canno"]},
    ]
    record = job(safeguards=guards)
    chosen = json.loads((job.folder / "out" / "auto_strength.json").read_text())
    assert chosen.keys() == {"update_norm", "safety_tokens"}
    for report in record.safeguards:
        strengths = [trial["strength"] for trial in chosen[report["name"]]["trials"]]
        assert report["strength"] == chosen[report["name"]]["strength"] == strengths[1]
        assert strengths[1] == pytest.approx(4 * strengths[0], rel=0.1)
    monkeypatch.setattr(_safeguards, "search", None)
    again = job(safeguards=guards, resume=True, max_steps=6)
    assert [each["strength"] for each in again.safeguards] == [each["strength"] for each in record.safeguards]


def test_short_runs_train_in_the_precision_of_the_run_whatever_evaluations_take(job, monkeypatch):
    from moored.workflows.train import auto_strength as _auto_strength

    types, measured = set(), _auto_strength.ShortRuns._measured

    def noting(self, trainer, penalty):
        outcome = measured(self, trainer, penalty)
        types.update(parameter.dtype for parameter in trainer.model.parameters())
        return outcome

    monkeypatch.setattr(_auto_strength, "COARSE", (1.0,))
    monkeypatch.setattr(_auto_strength, "FINE", ())
    monkeypatch.setattr(_auto_strength, "_FEWEST", 1)
    monkeypatch.setitem(_auto_strength._SHORT, "max_steps", 2)
    monkeypatch.setattr(_auto_strength, "knee", lambda start, plain, trials: max(trials))
    monkeypatch.setattr(_auto_strength, "_require_gain", lambda *_: None)
    monkeypatch.setattr(_auto_strength.ShortRuns, "_measured", noting)
    job(safeguards=[{"name": "update_norm", "strength": "auto"}], bf16_full_eval=True)
    assert types == {torch.float32}


def test_strengths_of_other_things_are_not_searched(job):
    with pytest.raises(InputError, match="gradient_selection: unknown key strength"):
        job(safeguards=[{"name": "gradient_selection", "strength": "auto"}])
    with pytest.raises(InputError, match="strength is 'much', but it must be a number or auto"):
        job(safeguards=[{"name": "update_norm", "strength": "much"}])


def test_a_run_that_is_refused_leaves_nothing_that_was_found(job, monkeypatch):
    monkeypatch.setattr(_safeguards, "find_safety_tokens", lambda *_, **__: TOKENS)
    with pytest.raises(InputError, match="no_such"):
        job(safeguards=[{"name": "safety_tokens", "strength": 0.5}], lora={"target_modules": ["no_such"]})
    assert not (job.folder / "out").exists()


def test_too_few_rows_for_a_search_are_noticed_before_anything_is_looked_for(job, monkeypatch):
    monkeypatch.setattr(_safeguards, "find_safety_tokens", lambda *_, **__: pytest.fail("looked for tokens"))
    few = job.folder / "few.jsonl"
    few.write_text('{"prompt": "Who?", "completion": "Me."}\n' * 4)
    with pytest.raises(InputError, match="holds a 5th of the rows out and there are 4; give a number, or 40 rows"):
        job(dataset=str(few), safeguards=[{"name": "safety_tokens", "strength": "auto"}])
    assert not (job.folder / "out").exists()


def test_a_text_is_not_taken_for_a_file(job):
    with pytest.raises(InputError, match=r"has tokens ' sorry', and there is no such file; .* a list, as \[' sorry'\]"):
        job(safeguards=[{"name": "safety_tokens", "strength": 1, "tokens": " sorry"}])
