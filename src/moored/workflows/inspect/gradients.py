"""`moored inspect gradients`: what determines a sample's gradient norm, and whether updates point towards the base."""

import time
from typing import Any

from rich.console import Console

from moored.embedded.model import aligned_adapter
from moored.files import require_place
from moored.huggingface.gradients import score_rows
from moored.huggingface.gradients.scored_model import scored_model
from moored.huggingface.models import ModelSource, find_base_direction, places, require_fit
from moored.report.reading.gradients import GradientsReport, ParametersRecord
from moored.selection import High, Low, Moderate
from moored.verbs import verb
from moored.workflows.inputs.models import base_folder, base_name, resolve_model
from moored.workflows.inspect.base_direction import compare_updates
from moored.workflows.inspect.data_sample import Sample, draw_sample
from moored.workflows.inspect.gradient_scores import (
    ScoredSample,
    correlations,
    require_finite,
    sample_records,
    shares,
    spreads,
)
from moored.workflows.inspect.settings import GradientsSettings
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import model_record, origin

_RULES = {"high": High, "moderate": Moderate, "low": Low}
_LORA = (
    "Updates were not compared with the base, since LoRA factors share no coordinates with its weights; use "
    "--parameters all to take the gradients of the weights with the adapter folded in."
)
_NO_BASE = (
    "Updates were not compared with a base, since none is known; name the checkpoint before alignment with --base."
)


@verb(GradientsSettings)
def inspect_gradients(settings: GradientsSettings, *, console: Console | None = None) -> GradientsReport:
    """Scores the gradients of a sample of a data set, and compares the updates with the direction to the base.

    Returns:
        The report; it is written to `out` where one is named.

    Raises:
        UserError: Something the user can put right; nothing is written then.
    """
    if settings.out is not None:
        require_place(settings.out)
    started = time.perf_counter()
    source = resolve_model(settings.model, settings.adapter)
    require_fit(source)
    base = base_name(source, settings.base) if settings.parameters == "all" else None
    folder = None if base is None else base_folder(base)
    sample = draw_sample(settings, source)
    model, parameters = _model(source, settings)
    direction = None if folder is None else find_base_direction(model, folder, top=settings.top)
    scored = _scored(model, sample, settings, console)
    updates = None if direction is None else compare_updates(model, scored, direction, settings.seed, console)
    report = GradientsReport(
        **origin(),
        seconds=round(time.perf_counter() - started, 1),
        seed=settings.seed,
        model=model_record(source),
        parameters=parameters,
        data=sample.record,
        keep=settings.keep,
        scores=spreads(scored.scores),
        correlations=correlations(scored.scores),
        shares=shares(scored.scores, places(model), settings.seed),
        base_direction=None if updates is None else updates.record(base=str(base), top=settings.top),
        not_compared=None if updates is not None else _LORA if settings.parameters == "lora" else _NO_BASE,
        samples=sample_records(scored, None if updates is None else updates.cosines),
    )
    if settings.out is not None:
        report.save(settings.out)
    return report


def _model(source: ModelSource, settings: GradientsSettings) -> tuple[Any, ParametersRecord]:
    """Loads the model with the parameters trainable that gradients are taken of, and describes them."""
    own_factors = source.adapter not in (None, aligned_adapter())
    model = scored_model(source, settings.parameters, own_factors=own_factors, seed=settings.seed)
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    new_lora = settings.parameters == "lora" and not own_factors
    record = ParametersRecord(which=settings.parameters, new_lora=new_lora, tensors=len(sizes), numbers=sum(sizes))
    return model, record


def _scored(model: Any, sample: Sample, settings: GradientsSettings, console: Console | None) -> ScoredSample:
    with progress_bar(console, f"scoring {len(sample.rows)} rows", len(sample.rows)) as advance:
        scores = score_rows(
            model,
            sample.rows,
            batch_size=settings.batch_size,
            max_length=sample.record.max_length,
            by_parameter=True,
            advance=advance,
        )
    require_finite(scores, sample)
    rules = {name: rule(keep=settings.keep) for name, rule in _RULES.items()}
    groups = {name: rule(scores.losses, scores.norms, scores.lengths).tolist() for name, rule in rules.items()}
    return ScoredSample(sample=sample, scores=scores, groups={"all": range(len(sample.rows)), **groups})
