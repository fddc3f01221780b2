"""Which repair the settings of the command state."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from moored.errors import InputError
from moored.huggingface.models import ModelSource
from moored.recovery import REPAIRS, LinearPull, OneShot, Repair, SafeLora
from moored.workflows.recover import plan
from moored.workflows.recover.method import OWNERS, method_of, pool_of
from moored.workflows.recover.settings import RecoverSettings


def _settings(**given):
    return RecoverSettings(model="m", out=Path("o"), **given)


@pytest.mark.parametrize(
    ("given", "knows_aligned", "method"),
    [
        ({}, True, OneShot.preset("auto")),
        ({}, False, OneShot.preset("published")),
        ({"preset": "adapter"}, True, OneShot.preset("adapter")),
        ({"preset": "auto", "steps": 3, "prompt": "A?"}, False, OneShot.preset("auto", steps=3, prompt="A?")),
        ({"method": "safe_lora"}, True, SafeLora()),
        (
            {"method": "safe_lora", "threshold": 1.0, "form": "projector", "rank": 2},
            True,
            SafeLora(threshold=1.0, form="projector", rank=2),
        ),
        ({"method": "linear_pull", "share": 0.0}, True, LinearPull(share=0.0)),
    ],
)
def test_the_method_has_its_preset_and_what_was_stated(given, knows_aligned, method):
    assert method_of(_settings(**given), knows_aligned=knows_aligned) == method


def test_a_model_whose_reference_nobody_knows_gets_the_published_preset(tmp_path, monkeypatch):
    """The embedded aligned model is a checkpoint with an adapter that is not named, and has no reference."""
    safety = tmp_path / "safety"
    monkeypatch.setattr(plan, "resolve_model", lambda *_: ModelSource("base", safety, name="embedded:aligned"))
    settings = RecoverSettings(model="embedded:aligned", out=tmp_path / "out")
    prepared = plan.prepare(settings, None, None)
    assert prepared.method == OneShot.preset("published") and prepared.aligned is None and prepared.start == safety


@pytest.mark.parametrize("name", OWNERS)
def test_a_setting_of_another_method_is_refused(name):
    values = {"form": "projector", "preset": "auto", "prompt": "A?", "refusal": "No.", "steps": 1, "rank": 1}
    other = "linear_pull" if OWNERS[name] != "linear_pull" else "one_shot"
    with pytest.raises(InputError, match=f"is a setting of {OWNERS[name]}, not of {other}; leave it out"):
        method_of(_settings(method=other, **{name: values.get(name, 0.5)}), knows_aligned=True)


def test_the_settings_know_every_method_and_its_settings():
    hints = get_type_hints(RecoverSettings)
    assert get_args(hints["method"]) == (*REPAIRS,)
    for name in get_args(get_args(hints["preset"])[0]):
        assert isinstance(OneShot.preset(name), OneShot)
    assert {*OWNERS} == {
        *("preset", "prompt", "refusal", "learning_rate", "steps", "stop_at"),
        *("threshold", "form", "rank", "share"),
    }


def test_every_method_keeps_the_contract():
    for name, kind in REPAIRS.items():
        method = kind()
        assert isinstance(method, Repair) and method.name == name and method.kind in ("example", "formula")
    assert OneShot(refusal=None).needs_aligned and not OneShot().needs_aligned


def test_a_choice_needs_examples_to_choose_from():
    assert pool_of(_settings()) is None
    pool = pool_of(_settings(choose_from="mine.jsonl", choose_by="bilevel"))
    assert (pool.examples, pool.by, pool.task) == ("mine.jsonl", "bilevel", "embedded")
    for given in ({"choose_by": "halving"}, {"task": "mine.jsonl"}):
        with pytest.raises(InputError, match="need --choose-from"):
            pool_of(_settings(**given))
