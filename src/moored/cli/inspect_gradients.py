"""`moored inspect gradients`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.inspect.settings import GradientsSettings


def inspect_gradients(settings: GradientsSettings) -> None:
    """Shows what determines a row's gradient norm, where the gradient lies, and whether it points towards the base."""
    quiet_libraries()
    from moored.report import gradients_table
    from moored.workflows.inspect import gradients

    report = gradients.inspect_gradients(settings, console=Console(stderr=True))
    console = Console()
    console.print(gradients_table(report))
    if report.not_compared:
        say(console, report.not_compared, wrap=True)
    say(console, f"Report: {settings.out}/index.html")


inspect_gradients_command = command(GradientsSettings, inspect_gradients)
