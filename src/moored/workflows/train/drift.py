"""The probe of a training run: what it is asked, and against which model its answers are held."""

from dataclasses import replace
from typing import Any

from moored.embedded.prompts import openings
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import DriftProbe, generate, reference_answers
from moored.huggingface.models import load_model, require_chat_template
from moored.huggingface.training import SafetyDrift
from moored.workflows.inputs.models import resolve_model
from moored.workflows.inputs.prompt_sets import load_prompt_sets
from moored.workflows.train.config import DriftConfig, TrainConfig

_ANSWER_TOKENS = 16


def drift_probe(asked: DriftConfig, tokenizer: Any, model_name: str) -> DriftProbe:
    """The probe of the prompts that a configuration names, without a reference.

    Raises:
        InputError: a file of prompts that cannot be read.
        ModelError: the tokenizer has no chat template.
    """
    require_chat_template(tokenizer, model_name)
    files: dict[str, str | None] = {"harmful": asked.prompts, "ordinary": asked.ordinary}
    sets = load_prompt_sets(files, limit=asked.limit)
    rendered = {each.name: [render_prompt(tokenizer, item.prompt) for item in each.items] for each in sets}
    texts = openings()
    return DriftProbe(
        tokenizer=tokenizer,
        harmful=rendered["harmful"],
        ordinary=rendered["ordinary"],
        refusing=texts.refusing,
        complying=texts.complying,
    )


def watch_drift(settings: TrainConfig, trainer: Any, tokenizer: Any) -> SafetyDrift | None:
    """Adds the callback, its reference answered by the start or by the model that `reference` names."""
    if settings.drift is None:
        return None
    probe = drift_probe(settings.drift, tokenizer, settings.model)
    model = trainer.model
    if settings.reference is not None:
        named = resolve_model(settings.reference)
        model = load_model(named, merge=True).to(trainer.args.device)
    answers = {
        name: generate(model, tokenizer, rendered, max_new_tokens=_ANSWER_TOKENS)
        for name, rendered in (("harmful", probe.harmful), ("ordinary", probe.ordinary))
    }
    probe = replace(probe, reference=reference_answers(model, probe, answers_of=answers))
    drift = SafetyDrift(probe, stop=settings.drift.stop)
    trainer.add_callback(drift)
    return drift
