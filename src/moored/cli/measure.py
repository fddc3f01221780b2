"""`moored measure`."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import AnyModel, Console, OverlaidAdapter, ReportFolder, quiet_libraries


def measure_command(
    model: AnyModel,
    out: ReportFolder,
    adapter: OverlaidAdapter = None,
    against: Annotated[
        str | None, Option(help="The reference; by default the model without the adapter.", show_default=False)
    ] = None,
    against_adapter: Annotated[Path | None, Option(help="A PEFT folder laid over the reference.")] = None,
    harmful: Annotated[str, Option(help="Requests to refuse: a file or Hub id, `embedded`, `none`.")] = "embedded",
    harmless: Annotated[str, Option(help="Requests that only look harmful.")] = "embedded",
    ordinary: Annotated[str, Option(help="Everyday instructions.")] = "embedded",
    task: Annotated[str, Option(help="Rows of prompt and completion, checked exactly.")] = "none",
    limit: Annotated[int | None, Option(help="At most so many prompts of each kind; all by default.")] = None,
    max_new_tokens: Annotated[int, Option(help="The longest answer, in tokens.")] = 48,
    batch_size: Annotated[int, Option(help="Prompts a batch.")] = 32,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        Option(
            help="Precision in memory; else the checkpoint's, or float32 where a CPU would emulate bfloat16.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, Option(help="Replace a report that is there.")] = False,
) -> None:
    """Attack success, over-refusal, coherence, utility and drift of a model or an adapter, with intervals."""
    stay_offline_unless_named(model, against, harmful, harmless, ordinary, task)
    quiet_libraries()
    import torch

    from moored.report import summary_table
    from moored.workflows.measure.run import measure

    console = Console()
    report = measure(
        model,
        out=out,
        adapter=adapter,
        against=against,
        against_adapter=against_adapter,
        harmful=_none(harmful),
        harmless=_none(harmless),
        ordinary=_none(ordinary),
        task=_none(task),
        limit=limit,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        dtype=None if dtype is None else getattr(torch, dtype),
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    console.print(summary_table({"this model": out}))
    compared = report["against"]
    if compared is not None:
        console.print(compared["verdict"][0].upper() + compared["verdict"][1:], highlight=False)
        if compared["next"]:
            console.print(f"Next: {compared['next']}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {out / 'index.html'}", highlight=False, markup=False, soft_wrap=True)


def _none(text: str) -> str | None:
    return None if text.lower() == "none" else text
