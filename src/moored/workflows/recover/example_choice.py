"""The choice of the example of a pool that repairs a model best, judged by what it leaves of safety and of the task."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from moored.errors import InputError
from moored.huggingface.data import render_prompt
from moored.huggingface.inference import generate, record_answers
from moored.huggingface.models import ModelSource, best_device, load_model, load_tokenizer, require_chat_template
from moored.recovery import OneShot
from moored.report.reading.recover import BilevelRecord, HalvingRecord
from moored.workflows.inputs.example_pool import Pool, candidates_of, pool_rows, task_prompts, unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.recover.example_trial import ExampleTrial, Probe

_PROMPTS = 32
"""The maximum number of prompts of each kind that candidates are judged on."""


def choose_example(
    tuned: ModelSource, aligned: ModelSource, pool: Pool, method: OneShot, *, console: Console | None = None
) -> Sequence[HalvingRecord | BilevelRecord]:
    """Ranks the examples of a pool by KL(aligned ‖ repaired) on harmful prompts + KL(tuned ‖ repaired) on the task.

    Args:
        tuned: The model to repair.
        aligned: The model to be like on harmful prompts; it also gives the refusals that a pool lacks.
        pool: The examples.
        method: The repair. Its own example is the first candidate, unless its refusal is to be the aligned model's own
            and that model does not refuse; each candidate is tried in its place.
        console: Where progress is shown; None is silent.

    Returns:
        The candidates, the best first.

    Raises:
        InputError: A file has no column `prompt` or an empty prompt, or the aligned model refuses nothing of the pool.
        ModelError: There is no chat template.
    """
    tokenizer = load_tokenizer(tuned)
    require_chat_template(tokenizer, tuned.describe())
    harmful = rendered_prompts(tokenizer, [pair.harmful for pair in unpooled_pairs()])
    task = rendered_prompts(tokenizer, task_prompts(pool.task))
    rows = pool_rows(pool.examples)
    reference = _loaded(aligned, merge=True)
    candidates = candidates_of(rows, reference, tokenizer)
    if not candidates:
        raise InputError(
            f"{aligned.describe()} refuses nothing of {pool.examples}; give the file a column refusal, or name other "
            "examples."
        )
    own = {"prompt": method.prompt, "refusal": method.refusal}
    candidates = [*candidates_of([own], reference, tokenizer), *candidates]
    safety = probe_of(reference, tokenizer, harmful)
    del reference
    model = _loaded(tuned, trainable=True).eval()
    trial = ExampleTrial(model, tokenizer, (safety, probe_of(model, tokenizer, task)), candidates, method)
    return (trial.by_halving if pool.by == "halving" else trial.by_weights)(console)


def _loaded(source: ModelSource, *, merge: bool = False, trainable: bool = False) -> Any:
    model: Any = load_model(source, merge=merge, trainable=trainable)
    return model.to(best_device())


def probe_of(model: Any, tokenizer: Any, rendered: Sequence[str]) -> Probe:
    """Makes a probe of a reference's own answers to rendered prompts."""
    texts = generate(model, tokenizer, rendered, max_new_tokens=16, batch_size=_PROMPTS)
    return Probe(rendered=rendered, answers=record_answers(model, tokenizer, rendered, texts))


def rendered_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """Renders as many prompts as are judged on, taken evenly."""
    return [render_prompt(tokenizer, prompt) for prompt in spread(prompts, _PROMPTS)]
