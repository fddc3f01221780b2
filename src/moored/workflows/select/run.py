"""`moored select`: scores a data set at a model that stays as it is, and writes the rows that a rule keeps."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moored.errors import InactiveError
from moored.files import write_json
from moored.huggingface.data import (
    RowStream,
    Supervision,
    features_of,
    open_rows,
    rendering_hash,
    supervise,
    template_date,
)
from moored.huggingface.gradients.dataset_scores import RowScores, score_chunk
from moored.huggingface.gradients.scored_model import scored_model
from moored.huggingface.models import ModelSource, best_device, context_length, load_tokenizer, require_fit
from moored.report import render_selection
from moored.report.reading.selection import RowsRecord, SelectReport
from moored.selection import GradientSelection
from moored.verbs import verb
from moored.workflows.inputs.models import resolve_model
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import model_record, origin
from moored.workflows.select.chunks import ScoreFiles, earlier, require_free
from moored.workflows.select.report import examples, selection_numbers
from moored.workflows.select.rows import refuse_unwritable, write_selected
from moored.workflows.select.settings import SelectSettings

_NOT_RECORDED = ("data", "model", "out", "adapter", "resume")
"""The settings that the report holds in fields of their own, or that change nothing."""


@verb(SelectSettings)
def select(settings: SelectSettings, *, console: Console | None = None) -> SelectReport:
    """Scores every row of a data set and writes those that a rule keeps, all rows with their scores, and a report.

    The rule sees the whole data set at once, at the weights that training would start from. Note that the published
    method re-selects at every optimizer step: that is `gradient_selection` among the safeguards of `moored train`. This
    selects once.

    Only a chunk of rows is in memory at any time. The scores of a finished chunk are on the disk, and a resumed run
    ends with the same bits as one that was never interrupted.

    Returns:
        What is written to `report.json`.

    Raises:
        UserError: Something the user can put right; nothing is written unless a chunk was scored already.
    """
    started = time.perf_counter()
    rule = GradientSelection(rule=settings.rule, keep=settings.keep, seed=settings.seed)
    require_free(settings.out, resume=settings.resume)
    source = resolve_model(settings.model, settings.adapter)
    require_fit(source)
    rows = open_rows(settings.data, split=settings.split)
    refuse_unwritable(rows, settings.format)
    features = features_of(rows) if settings.format == "datasets" else None
    tokenizer = load_tokenizer(source)
    report = _begun(source, rows, settings, tokenizer)
    before = earlier(settings.out, report)
    if before is not None and before.finished:
        ScoreFiles(settings.out, before).remove()  # The kill may have come before this.
        return before
    files = ScoreFiles(settings.out, report)
    how = Supervision(tokenizer=tokenizer, render=settings.render)
    scores = _score(source, rows, how, report.settings, files, console)
    kept = _keep(rule, rows, scores)
    report = replace(
        report,
        finished=True,
        files=write_selected(settings.out, rows, scores, kept, features),
        seconds=round(time.perf_counter() - started, 1),
        numbers=selection_numbers(scores, kept, rule),
        examples=examples(rows, scores, kept),
    )
    # The report comes last: one that says *finished* has all its files beside it.
    render_selection(report, settings.out)
    write_json(settings.out / SelectReport.file, report.to_dict())
    files.remove()
    return report


def _begun(source: ModelSource, rows: RowStream, settings: SelectSettings, tokenizer: Any) -> SelectReport:
    """The report of a selection before any row is scored: what its scores depend on."""
    room = context_length(source)
    stated = {key: value for key, value in settings.stated().items() if key not in _NOT_RECORDED}
    return SelectReport(
        **origin(),
        method="static selection at the starting weights",
        model=model_record(source),
        data=RowsRecord(name=rows.name, sha256=rows.sha256, columns=rows.columns),
        rendering=_rendering(tokenizer),
        settings={
            **stated,
            "max_length": min(settings.max_length, room or settings.max_length),
            "device": best_device().type,
        },
    )


def _rendering(tokenizer: Any) -> dict[str, str]:
    """What the rows' tokens depend on beside their texts; a template that asks for the date always gets the same."""
    template, date = tokenizer.chat_template or "", template_date(tokenizer)
    texts = [text for named in sorted(template.items()) for text in named] if isinstance(template, dict) else [template]
    return {"chat_template_sha256": rendering_hash(texts)} | ({} if date is None else {"date": date})


def _score(
    source: ModelSource, rows: RowStream, how: Supervision, stated: Mapping[str, Any], files: ScoreFiles, console: Any
) -> RowScores:
    """Scores all rows; chunks whose scores are on the disk are skipped."""
    size, model = stated["chunk_rows"], None
    sizes = [min(size, rows.count - start) for start in range(0, rows.count, size)]
    done = sum(count for chunk, count in enumerate(sizes) if chunk in files)
    label = f"scoring {Path(rows.name).name}"
    with progress_bar(console, label, rows.count, done=done, unit="rows") as advance:
        for chunk, part in enumerate(rows.chunks(size)):
            if chunk in files:
                continue
            place = {"where": rows.name, "first": chunk * size + 1}
            tokens = supervise(part, how, **place)
            model = scored_model(source, stated["parameters"]) if model is None else model
            limits = {"max_length": stated["max_length"], "batch_size": stated["batch_size"]}
            files.write(chunk, score_chunk(model, tokens, **limits, **place, progress=advance))
    return files.read(len(sizes))


def _keep(rule: GradientSelection, rows: RowStream, scores: RowScores) -> torch.Tensor:
    if not scores.lengths.any():
        raise InactiveError(
            f"None of the {rows.count} rows of {rows.name} has a supervised token within the maximum length, so none "
            "can be selected; check the answers and max_length."
        )
    kept = rule.make_rule()(scores.losses, scores.norms, scores.lengths)
    return kept[scores.lengths[kept] > 0]
