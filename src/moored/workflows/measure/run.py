"""`moored measure`: what a model refuses, what it over-refuses, what it can do, and how far it has drifted."""

import shutil
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from moored.errors import InputError
from moored.files import require_place
from moored.huggingface.models import ModelSource, require_fit
from moored.outputs import keep_inputs
from moored.report.reading.measure import ANSWERS, REFERENCE_ANSWERS, MeasureReport
from moored.verbs import verb
from moored.workflows.inputs.judges import judge_named
from moored.workflows.inputs.models import reference_of, resolve_model
from moored.workflows.inputs.prompt_sets import load_prompt_sets
from moored.workflows.measure.kept_answers import partial_folder
from moored.workflows.measure.measure_model import measure_model
from moored.workflows.measure.prompts import Prompts, render, require_known_tokens, require_room, require_same_tokens
from moored.workflows.measure.report import build_report
from moored.workflows.measure.settings import MeasureSettings


@verb(MeasureSettings)
def measure(settings: MeasureSettings, *, console: Console | None = None) -> MeasureReport:
    """Measures a model, and compares it with a reference where there is one.

    Answers are kept beside `out` as they come, so an interrupted call can be repeated and resumes.

    Returns:
        The report; it is written to `out` where one is named.

    Raises:
        UserError: Something the user can put right; no report is written then.
    """
    if settings.out is not None:
        _require_place(settings.out, overwrite=settings.overwrite)
    started = time.perf_counter()
    judge, (source, reference_source) = judge_named(settings.judge), _sources(settings)
    _keep_what_is_read(settings, source, reference_source)
    prompts = _prompts(settings, source, reference_source)
    ask = partial(measure_model, prompts=prompts, settings=settings, judge=judge, console=console)
    kept = None if settings.out is None else partial_folder(settings.out)
    reference = None
    if reference_source is not None:
        keep_in = kept and kept / REFERENCE_ANSWERS
        reference = ask(reference_source, name="reference", keep_in=keep_in, is_reference=True)
    against = None if reference is None else reference.reference
    measured = ask(source, name="model", keep_in=kept and kept / ANSWERS, reference=against)
    seconds = time.perf_counter() - started
    report = build_report(measured, reference, prompts, settings, judge, seconds=seconds)
    if settings.out is not None:
        report.save(settings.out, overwrite=settings.overwrite)
        shutil.rmtree(partial_folder(settings.out), ignore_errors=True)
    return report


def _require_place(out: Path, *, overwrite: bool) -> None:
    try:
        require_place(out, overwrite=overwrite, own=MeasureReport.own_output())
    except InputError:
        if (out / MeasureReport.file).is_file():
            # The kill came after the report was in its place, which holds all answers.
            shutil.rmtree(partial_folder(out), ignore_errors=True)
        raise


def _sources(settings: MeasureSettings) -> tuple[ModelSource, ModelSource | None]:
    """The model and its reference."""
    source = resolve_model(settings.model, settings.adapter)
    reference = reference_of(source, settings.adapter, settings.against, settings.against_adapter)
    return source, reference


def _keep_what_is_read(settings: MeasureSettings, *sources: ModelSource | None) -> None:
    """Raises InputError where the report would replace something that is read."""
    if settings.out is not None:
        models = [path for source in sources if source is not None for path in (source.path, source.adapter)]
        keep_inputs(settings.out, *models, *settings.prompt_files().values())


def _prompts(settings: MeasureSettings, source: ModelSource, reference: ModelSource | None) -> Prompts:
    """The rendered prompts, which both models can read; all that can be refused is refused before a model is loaded."""
    sets = load_prompt_sets(settings.prompt_files(), limit=settings.limit)
    sources = [source] if reference is None else [source, reference]
    for each in sources:
        require_fit(each)
    prompts = render(sets, source, settings)
    for each in sources:
        require_same_tokens(prompts, each)
        require_known_tokens(prompts, each)
        require_room(prompts, each)
    return prompts
