"""`moored select`: scores a dataset at a model that stays as it is, and writes the rows that a rule keeps."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moored.errors import InactiveError
from moored.files import write_json
from moored.huggingface.data import RowStream, Supervision, as_table, features_of, open_rows, rendering_hash, supervise
from moored.huggingface.gradients.dataset_scores import RowScores, score_chunk
from moored.huggingface.gradients.scored_model import scored_model
from moored.huggingface.models import ModelSource, best_device, context_length, load_tokenizer, require_fit
from moored.report import render_selection
from moored.selection import GradientSelection
from moored.workflows.inputs.models import laid_over, resolve_model
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import stamp, weights_hash
from moored.workflows.select.chunks import REPORT, ScoreFiles, begun, require_free
from moored.workflows.select.report import examples, selection_numbers
from moored.workflows.select.rows import refuse_unwritable, write_selected
from moored.workflows.select.settings import SelectSettings


def select(
    data: str,
    *,
    model: str,
    out: Path,
    adapter: Path | None = None,
    settings: SelectSettings | None = None,
    resume: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Scores every row of a dataset and writes those that a rule keeps, all rows with their scores, and a report.

    The rule sees the whole dataset at once, at the weights that training would start from. This static selection is
    another method than the published rule, which chooses anew within each optimizer step, at the running weights:
    that is `gradient_selection` among the safeguards of `moored train`.

    Written are `kept` and `scored` (`.jsonl` files or folders of `datasets`), `kept_indices.json` (rows count from 0),
    `index.html`, and `report.json`: `command`, `versions`, `model`, `data`, `rendering` and `settings` say where the
    numbers come from; `files` names the rows, `rows` counts them; `quantiles` has those of `norm`, `loss` and `tokens`
    (supervised ones) of all scored and of the kept rows; `length_confound` two rank correlations and how probably a
    kept row is longer than one left out, each with n and interval; `overlap` what every other rule keeps of the kept
    rows at the same share, beside what chance would; `histogram` and `points` are the plots; `examples` are rows,
    their texts cut short.

    Only a chunk of rows is in memory at any time. A finished chunk's scores are on the disk, and a resumed run ends
    with the same bits as one that was never interrupted.

    Args:
        data: a JSONL, JSON, Parquet or CSV file, a folder of `datasets`, or a Hub id.
        model: a folder, a Hub id, an adapter folder, `embedded:base` or `embedded:aligned`.
        out: the folder; must be empty or absent unless `resume`.
        adapter: a PEFT folder that is folded into the weights.
        settings: of the scoring, the rule and the files.
        resume: go on with what `out` holds; settings, model, data and versions must be the same.
        console: where progress is shown; None is silent.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: whatever the user can put right; nothing is written unless a chunk was scored already.
    """
    started = time.perf_counter()
    settings = settings or SelectSettings()
    require_free(out, resume=resume)
    source = resolve_model(model, adapter)
    require_fit(source)
    rows = open_rows(data, split=settings.split)
    refuse_unwritable(rows, settings.format)
    features = features_of(rows) if settings.format == "datasets" else None
    tokenizer = load_tokenizer(source)
    record = _record(source, rows, settings, tokenizer)
    before = begun(out, record)
    if before is not None and before["finished"]:
        return before
    files = ScoreFiles(out, record)
    how = Supervision(tokenizer=tokenizer, render=settings.render)  # pyright: ignore[reportArgumentType]
    scores = _score(source, rows, how, record["settings"], files, console)
    kept = _keep(settings.chosen(), rows, scores)
    report = {
        **record,
        "finished": True,
        "files": write_selected(out, rows, scores, kept, features),
        "seconds": round(time.perf_counter() - started, 1),
        **selection_numbers(scores, kept, settings.chosen()),
        "examples": examples(rows, scores, kept),
    }
    render_selection(report, out)
    write_json(out / REPORT, report)
    files.remove()
    return report


def _record(source: ModelSource, rows: RowStream, settings: SelectSettings, tokenizer: Any) -> dict[str, Any]:
    adapter, room = laid_over(source), context_length(source)
    return {
        **stamp("select"),
        "method": "static selection at the starting weights",
        "model": {
            "name": source.name or source.path,
            "adapter": None if adapter is None else str(adapter),
            "weights_sha256": weights_hash(source),
        },
        "data": {"name": rows.name, "sha256": rows.sha256, "columns": rows.columns},
        "rendering": {"chat_template_sha256": rendering_hash([tokenizer.chat_template or ""])},
        "settings": {
            **asdict(settings),
            "max_length": min(settings.max_length, room or settings.max_length),
            "device": best_device().type,
        },
    }


def _score(
    source: ModelSource, rows: RowStream, how: Supervision, stated: dict[str, Any], files: ScoreFiles, console: Any
) -> RowScores:
    """The scores of all rows; chunks whose scores are on the disk are read over."""
    size, model = stated["chunk_rows"], None
    sizes = [min(size, rows.count - start) for start in range(0, rows.count, size)]
    done = sum(count for chunk, count in enumerate(sizes) if chunk in files)
    label = f"scoring {Path(rows.name).name}"
    with progress_bar(console, label, rows.count, done=done, unit="rows") as advance:
        for chunk, part in enumerate(rows.chunks(size)):
            if chunk in files:
                continue
            place = {"where": rows.name, "first": chunk * size + 1}
            tokens = supervise(as_table(part, rows.columns, **place), how, **place)
            model = scored_model(source, stated["parameters"]) if model is None else model
            limits = {"max_length": stated["max_length"], "batch_size": stated["batch_size"]}
            files.write(chunk, score_chunk(model, tokens, **limits, **place, progress=advance))
    return files.read(len(sizes))


def _keep(chosen: GradientSelection, rows: RowStream, scores: RowScores) -> torch.Tensor:
    if not scores.lengths.any():
        raise InactiveError(
            f"None of the {rows.count} rows of {rows.name} has a supervised token within the maximum length, so none "
            "can be selected; check the answers and --max-length."
        )
    kept = chosen.make_rule()(scores.losses, scores.norms, scores.lengths)
    return kept[scores.lengths[kept] > 0]
