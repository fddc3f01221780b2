"""`moored inspect gradients`."""

from enum import StrEnum
from typing import Annotated

from typer import Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import AnyModel, Console, OverlaidAdapter, ReportFolder, quiet_libraries
from moored.terminal import say


class Parameters(StrEnum):
    """By which parameters the gradient is taken."""

    ALL = "all"
    LORA = "lora"


def inspect_gradients_command(
    model: AnyModel,
    data: Annotated[str, Option(help="Rows as `moored train` takes them: a file or Hub id.")],
    out: ReportFolder,
    adapter: OverlaidAdapter = None,
    base: Annotated[
        str | None,
        Option(
            help="The model before alignment, to compare with; `embedded:base` by default for `embedded:aligned`.",
            show_default=False,
        ),
    ] = None,
    parameters: Annotated[
        Parameters, Option(help="`all`, or the factors of the adapter or of a new LoRA.")
    ] = Parameters.ALL,
    limit: Annotated[int, Option(help="Rows drawn from the data.")] = 256,
    seed: Annotated[int, Option(help="Of the draw and of all that is random.")] = 0,
    max_length: Annotated[int, Option(help="Tokens after which a row is cut.")] = 512,
    batch_size: Annotated[int, Option(help="Rows that are scored at once.")] = 8,
    top: Annotated[int, Option(help="Coordinates of each matrix at which updates are compared with the base.")] = 1000,
    keep: Annotated[
        float, Option(help="Share of the rows that each of the groups high, moderate and low holds.")
    ] = 0.2,
) -> None:
    """What decides a sample's gradient norm, where it lies, and whether large ones lead back to the base."""
    stay_offline_unless_named(model, data, base)
    quiet_libraries()
    from moored.report import gradients_table
    from moored.workflows.inspect.gradients import inspect_gradients

    console = Console()
    report = inspect_gradients(
        model,
        data=data,
        out=out,
        adapter=adapter,
        base=base,
        parameters=parameters.value,
        limit=limit,
        seed=seed,
        max_length=max_length,
        batch_size=batch_size,
        top=top,
        keep=keep,
        console=Console(stderr=True),
    )
    console.print(gradients_table(report))
    if "left_out" in report["reversion"]:
        say(console, report["reversion"]["left_out"], wrap=True)
    say(console, f"Report: {out / 'index.html'}")
