"""`moored inspect spectrum`."""

from typing import Annotated

from typer import Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import AnyModel, Console, OverlaidAdapter, ReportFolder, quiet_libraries


def inspect_spectrum_command(
    model: AnyModel,
    out: ReportFolder,
    adapter: OverlaidAdapter = None,
    prompt: Annotated[str | None, Option(help="The harmful request of the safety example.", show_default=False)] = None,
    refusal: Annotated[str | None, Option(help="The refusal to it.", show_default=False)] = None,
    batch: Annotated[int, Option(help="Safety examples that it is compared with.")] = 16,
    top: Annotated[int, Option(help="Singular vectors of which the overlap is taken.")] = 20,
) -> None:
    """How few directions the gradient of a safety example lives in, against a benign example of equal length."""
    stay_offline_unless_named(model)
    quiet_libraries()
    from moored.report import spectrum_findings
    from moored.workflows.inspect.spectrum import inspect_spectrum

    console = Console()
    given = {"prompt": prompt, "refusal": refusal}
    example = {name: value for name, value in given.items() if value is not None}
    report = inspect_spectrum(
        model, out=out, adapter=adapter, batch=batch, top=top, console=Console(stderr=True), **example
    )
    for sentence in spectrum_findings(report):
        console.print(sentence, highlight=False)
    console.print(f"Report: {out / 'index.html'}", highlight=False, markup=False, soft_wrap=True)
