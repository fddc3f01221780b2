"""`moored inspect gradients`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.workflows.inspect.settings import GradientsSettings


def inspect_gradients(settings: GradientsSettings) -> None:
    """Shows what determines a row's gradient norm, where the gradient lies, and whether it points towards the base."""
    quiet_libraries()
    from moored.report import gradients_table
    from moored.workflows.inspect import gradients

    report = gradients.inspect_gradients(settings, console=Console(stderr=True))
    console = Console(highlight=False, soft_wrap=True)
    console.print(gradients_table(report))
    if report.not_compared:
        console.print(report.not_compared)
    console.print(f"Report: {settings.out}/index.html", markup=False)


inspect_gradients_command = command(GradientsSettings, inspect_gradients)
