"""Several models on the same prompts, each with its own report folder, the first the reference of the others."""

import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from moored.files import whole_folder
from moored.huggingface.models import ModelSource
from moored.workflows.inputs.prompt_sets import EMBEDDED, load_prompt_sets
from moored.workflows.measure.answers import Measured, Settings, measure_model, render
from moored.workflows.measure.run import OWN, build_report, write_report


def measure_arms(
    arms: Mapping[str, ModelSource],
    *,
    out: Path,
    limits: Mapping[str, int],
    settings: Settings,
    console: Console | None = None,
) -> dict[str, Path]:
    """Measures each arm that has no report yet and returns the report folders by name, in order.

    The prompts are rendered once, by the first arm's chat template. The reference answers again where an arm is
    still to be measured, since its logits are too large to keep.

    Args:
        arms: the models by the names of their arms.
        out: the folder of the report folders.
        limits: per kind of held-out prompts of our own how many are asked, taken evenly.
        settings: of the generation.
        console: where progress is shown; None is silent.
    """
    folders = {name: out / f"{position}-{_slug(name)}" for position, name in enumerate(arms)}
    missing = [name for name, folder in folders.items() if not (folder / "report.json").is_file()]
    if not missing:
        return folders
    first = next(iter(arms))
    sets = [each for name, limit in limits.items() for each in load_prompt_sets({name: EMBEDDED}, limit=limit)]
    asked = render(sets, arms[first])
    reference: Measured | None = None
    for name in dict.fromkeys([first, *missing]):
        started = time.perf_counter()
        measured = measure_model(
            arms[name],
            asked,
            settings,
            reference=None if reference is None else reference.reference,
            keep_reference=reference is None,
            console=console,
            label=name,
        )
        report = build_report(measured, reference, asked, seconds=time.perf_counter() - started)
        with whole_folder(folders[name], overwrite=True, own=OWN) as folder:
            write_report(folder, report, measured, reference)
        reference = reference or measured
    return folders


def _slug(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())
