"""`moored select`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import Console, quiet_libraries


def select_command(
    data: Annotated[
        str, Argument(help="Rows as `moored train` takes them: JSONL, Parquet, CSV, a `datasets` folder, a Hub id.")
    ],
    model: Annotated[str, Option(help="Where training would start: a folder, a Hub id, `embedded:aligned`.")],
    out: Annotated[Path, Option(help="The folder; must be empty or absent.")],
    adapter: Annotated[Path | None, Option(help="A PEFT folder that is folded into the model's weights.")] = None,
    rule: Annotated[
        str,
        Option(
            help="`moderate` (ordinary loss, norm near the median), `low` or `high` (norm), `random`, `loss_band` "
            "(ordinary loss, at random), `length_corrected` (moderate, by norm times √length), `length_matched_random` "
            "(at random, of the lengths that moderate keeps)."
        ),
    ] = "moderate",
    keep: Annotated[float, Option(help="Share of the rows to keep, above 0 and at most 1; rounded down.")] = 0.2,
    seed: Annotated[int, Option(help="Of the rules that draw at random.")] = 0,
    parameters: Annotated[str, Option(help="Whose gradients: `all` weights', or `lora` for a new LoRA's.")] = "all",
    split: Annotated[str, Option(help="Of a Hub dataset, or of a folder with several.")] = "train",
    render: Annotated[str, Option(help="`chat`, or `raw` for string rows without the chat template.")] = "chat",
    max_length: Annotated[int, Option(help="Tokens that a row is cut to.")] = 1024,
    batch_size: Annotated[int, Option(help="Rows that are scored at once.")] = 8,
    output_format: Annotated[
        str, Option("--format", help="Of the rows that are written: `jsonl`, `datasets`.")
    ] = "jsonl",
    resume: Annotated[bool, Option("--resume", help="Go on after an interruption, with the same settings.")] = False,
) -> None:
    """Chooses the rows to train on, once and before training, by their gradients at a model; nothing is trained."""
    stay_offline_unless_named(data, model)
    quiet_libraries()
    from moored.workflows.select.run import select
    from moored.workflows.select.settings import SelectSettings

    settings = SelectSettings(
        rule=rule,
        keep=keep,
        seed=seed,
        parameters=parameters,
        split=split,
        render=render,
        max_length=max_length,
        batch_size=batch_size,
        format=output_format,
    )
    console = Console(stderr=True)
    report = select(data, model=model, out=out, adapter=adapter, settings=settings, resume=resume, console=console)
    _print(Console(highlight=False, soft_wrap=True), report, out)


def _print(console: Console, report: dict[str, Any], out: Path) -> None:
    from moored.report import selection_findings

    rows = report["rows"]
    console.print(f"Kept {rows['kept']} of {rows['all']} rows by the rule {report['settings']['rule']}.")
    for sentence in selection_findings(report)[:2]:
        console.print(sentence, markup=False)
    console.print(f"Kept rows: {out / report['files']['kept']}, the dataset for moored train")
    console.print(f"Report: {out / 'index.html'}", markup=False)
