"""Several models on the same prompts, each with its own report folder, the first the reference of the others."""

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console

from moored.huggingface.models import ModelSource
from moored.measurement import Judge
from moored.report.reading.measure import MeasureReport
from moored.workflows.inputs.judges import judge_named
from moored.workflows.inputs.prompt_sets import EMBEDDED, load_prompt_sets
from moored.workflows.measure.kept_answers import partial_folder
from moored.workflows.measure.measure_model import Measured, measure_model
from moored.workflows.measure.prompts import Prompts, render
from moored.workflows.measure.report import build_report
from moored.workflows.measure.settings import MeasureSettings


def measure_arms(
    arms: Mapping[str, ModelSource],
    *,
    out: Path,
    limits: Mapping[str, int],
    settings: MeasureSettings,
    console: Console | None = None,
) -> dict[str, Path]:
    """Measures each arm that has no report yet and returns the report folders by name, in order.

    The prompts are rendered once, by the first arm's chat template. The reference is loaded again where an arm is
    still to be measured, since its logits are too large to keep.

    Args:
        arms: the models by the names of their arms.
        out: the folder of the report folders.
        limits: the number of our own held-out prompts of each kind that are asked, taken evenly.
        settings: how the models are asked; its model and its prompts are left alone.
        console: where progress is shown; None is silent.
    """
    folders = {name: out / f"{position}-{_slug(name)}" for position, name in enumerate(arms)}
    missing = [name for name, folder in folders.items() if not (folder / MeasureReport.file).is_file()]
    if not missing:
        return folders
    first = next(iter(arms))
    kinds = [load_prompt_sets({kind: EMBEDDED}, limit=limit) for kind, limit in limits.items()]
    prompts, judge = render([*chain(*kinds)], arms[first], settings), judge_named(settings.judge)
    measure_arm = partial(_measure_arm, prompts=prompts, settings=settings, judge=judge, console=console)
    reference: Measured | None = None
    for name in dict.fromkeys([first, *missing]):
        measured = measure_arm(name, arms[name], folders[name], reference)
        reference = reference or measured
    for folder in folders.values():
        shutil.rmtree(partial_folder(folder), ignore_errors=True)
    return folders


def _measure_arm(
    name: str,
    source: ModelSource,
    folder: Path,
    reference: Measured | None,
    *,
    prompts: Prompts,
    settings: MeasureSettings,
    judge: Judge,
    console: Console | None,
) -> Measured:
    """Measures one arm and writes its report; without a reference it is that of the others."""
    started = time.perf_counter()
    measured = measure_model(
        source,
        prompts=prompts,
        settings=settings,
        judge=judge,
        name=name,
        keep_in=partial_folder(folder) / "answers.jsonl",
        reference=None if reference is None else reference.reference,
        is_reference=reference is None,
        console=console,
    )
    stated, seconds = replace(settings, model=str(source.name)), time.perf_counter() - started
    report = build_report(measured, reference, prompts, stated, judge, seconds=seconds)
    report.save(folder, overwrite=True)
    return measured


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
