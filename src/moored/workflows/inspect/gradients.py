"""`moored inspect gradients`: what decides a sample's gradient norm, and whether large ones lead back to the base.

`report.json` holds, beside what every report says of its making:

- `parameters`: `which`, whether they are those of a `new_lora`, and how many `tensors` and `numbers` they are.
- `data`: `source`, its `rows`, the rows `sampled`, of which `without_answer` were left out, and `cut` to `max_length`.
- `keep`: the share of the samples that is called high, moderate and low.
- `scores`: the quartiles of `norm`, `loss` and `length`.
- `correlations`: Spearman's rho of the norm with `length` and `loss` (`rho`, `low`, `high`, `p_value`, `n`).
- `shares`: by `layer`, `kind` of weight and LoRA `factor`, the share of the squared norm, as means over samples.
- `reversion`: the `base`, `top` coordinates, and what `describe_reversion` says; or `left_out`, the reason why not.

`samples.jsonl` has one line a sample: `row` of the data (from 1), `loss`, `norm`, `length`, its `groups` and `cosine`.
"""

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from moored.embedded.model import aligned_adapter
from moored.errors import InputError
from moored.files import require_place, whole_folder, write_json, write_jsonl
from moored.huggingface.gradients import Scores, score_rows
from moored.huggingface.gradients.scored_model import Parameters, scored_model
from moored.huggingface.models import places, require_fit, reversion
from moored.report import render_gradients
from moored.selection import High, Low, Moderate
from moored.workflows.inputs.models import base_folder, base_name, resolve_model
from moored.workflows.inspect.base_direction import describe_reversion
from moored.workflows.inspect.gradient_scores import correlations, quartiles, require_finite, sample_lines, shares
from moored.workflows.inspect.sample import Sample, draw_sample
from moored.workflows.records.progress import progress_bar
from moored.workflows.records.provenance import describe_model, stamp

_LORA = (
    "The way back lies in the dense weights, but only LoRA factors are trained here, whose gradients have no such "
    "coordinates; --parameters all takes the gradient by the weights that the adapter is folded into."
)
_NO_BASE = "No base was named to lead back to; --base names the checkpoint that the model was aligned from."


def inspect_gradients(
    model: str,
    *,
    data: str,
    out: Path,
    adapter: Path | None = None,
    base: str | None = None,
    parameters: Parameters = "all",
    limit: int = 256,
    seed: int = 0,
    max_length: int = 512,
    batch_size: int = 8,
    top: int = 1000,
    keep: float = 0.2,
    console: Console | None = None,
) -> dict[str, Any]:
    """Scores a sample of a data set and writes `report.json`, `samples.jsonl` and `index.html`.

    Args:
        model: a folder, a Hub id, an adapter folder, `embedded:base` or `embedded:aligned`.
        data: a file or a Hub id of rows as `moored train` takes them.
        out: the report folder; must be empty or absent.
        adapter: a PEFT folder laid over the model.
        base: the checkpoint that the model was aligned from; `embedded:base` by default for `embedded:aligned`.
        parameters: by which the gradient is taken: `all`, with adapters folded in, or `lora`: the factors of the
            adapter that was named, else of a new LoRA as `moored train` starts with.
        limit: rows drawn from the data, in their order.
        seed: of that draw, of a new LoRA, of the bootstrap and of the control.
        max_length: tokens after which a row is cut.
        batch_size: rows a batch.
        top: coordinates of each matrix at which an update is compared with the way back.
        keep: share of the samples that is called high, moderate and low.
        console: where progress is shown; None is silent.

    Returns:
        The content of `report.json`.

    Raises:
        UserError: whatever the user can put right; nothing is written then.
    """
    require_place(out)
    _require_positive(limit=limit, max_length=max_length, batch_size=batch_size, top=top)
    rules = {"high": High(keep=keep), "moderate": Moderate(keep=keep), "low": Low(keep=keep)}
    started = time.perf_counter()
    source = resolve_model(model, adapter)
    require_fit(source)
    back_to = base_name(source, base)
    folder_of_base = None if back_to is None or parameters == "lora" else base_folder(back_to)
    sample = draw_sample(data, source, limit=limit, seed=seed, max_length=max_length)
    own_factors = source.adapter not in (None, aligned_adapter())
    scored = scored_model(source, parameters, own_factors=own_factors, seed=seed)
    back = None if folder_of_base is None else reversion(scored, folder_of_base, top=top)
    scores = _score(scored, sample, batch_size, console)
    groups = {"all": list(range(len(sample.rows)))}
    groups |= {name: rule(scores.losses, scores.norms, scores.lengths).tolist() for name, rule in rules.items()}
    led_back, cosines = {"left_out": _LORA if parameters == "lora" else _NO_BASE}, None
    if back is not None:
        described, cosines = describe_reversion(scored, sample, back, scores.norms, groups, seed=seed, console=console)
        led_back = {"base": back_to, "top": top, **described}
    report = {
        **stamp("inspect gradients"),
        "seconds": round(time.perf_counter() - started, 1),
        "seed": seed,
        "model": describe_model(source),
        "parameters": _parameters(scored, parameters, own_factors),
        "data": sample.described,
        "keep": keep,
        "scores": quartiles(scores),
        "correlations": correlations(scores),
        "shares": shares(scores, places(scored), seed),
        "reversion": led_back,
        "samples": "samples.jsonl",
    }
    with whole_folder(out) as folder:
        write_jsonl(folder / "samples.jsonl", sample_lines(sample, scores, groups, cosines))
        write_json(folder / "report.json", report)
        render_gradients(folder)
    return report


def _require_positive(**settings: int) -> None:
    for name, value in settings.items():
        if value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")


def _score(model: Any, sample: Sample, batch_size: int, console: Console | None) -> Scores:
    with progress_bar(console, f"scoring {len(sample.rows)} rows", len(sample.rows)) as advance:
        scores = score_rows(
            model,
            sample.rows,
            batch_size=batch_size,
            max_length=sample.max_length,
            by_parameter=True,
            advance=advance,
        )
    require_finite(scores, sample)
    return scores


def _parameters(model: Any, which: Parameters, own_factors: bool) -> dict[str, Any]:
    trained = [each for each in model.parameters() if each.requires_grad]
    numbers = sum(each.numel() for each in trained)
    new = which == "lora" and not own_factors
    return {"which": which, "new_lora": new, "tensors": len(trained), "numbers": numbers}
