"""`moored inspect basin`."""

from typing import Annotated

from typer import Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import AnyModel, Console, OverlaidAdapter, ReportFolder, quiet_libraries
from moored.terminal import say


def inspect_basin_command(
    model: AnyModel,
    out: ReportFolder,
    adapter: OverlaidAdapter = None,
    against: Annotated[
        str | None,
        Option(help="The aligned model; else what the adapter lies over, or the model itself.", show_default=False),
    ] = None,
    base: Annotated[
        str | None,
        Option(help="The checkpoint before alignment; `embedded:base` for `embedded:aligned`.", show_default=False),
    ] = None,
    random: Annotated[int, Option(help="Random directions.")] = 10,
    prompts: Annotated[int, Option(help="Harmful requests that are scored at each point.")] = 16,
    kept: Annotated[float, Option(help="Share of the aligned model's refusals that still counts as safe.")] = 0.5,
    reach: Annotated[float, Option(help="The largest distance moved, relative to the weights.")] = 0.32,
    full: Annotated[bool, Option(help="Answer and judge at each point, too; takes many times as long.")] = False,
    plane: Annotated[bool, Option(help="Score the plane of alignment and the harmful direction.")] = True,
    seed: Annotated[int, Option(help="Of the random directions.")] = 0,
) -> None:
    """How safe a model stays when its weights are moved: along alignment, a harmful direction and random ones."""
    stay_offline_unless_named(model, against, base)
    quiet_libraries()
    from moored.report import basin_findings
    from moored.workflows.inspect.basin import inspect_basin

    console = Console()
    report = inspect_basin(
        model,
        out=out,
        adapter=adapter,
        against=against,
        base=base,
        random=random,
        prompts=prompts,
        kept=kept,
        reach=reach,
        full=full,
        plane=plane,
        seed=seed,
        console=Console(stderr=True),
    )
    for sentence in basin_findings(report):
        say(console, sentence, wrap=True)
    say(console, f"Report: {out / 'index.html'}")
