"""`moored inspect basin`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.inspect.settings import BasinSettings


def inspect_basin(settings: BasinSettings) -> None:
    """Shows how far the weights can move, in several directions, before the model stops refusing harmful requests."""
    quiet_libraries()
    from moored.report import basin_findings
    from moored.workflows.inspect import basin

    report = basin.inspect_basin(settings, console=Console(stderr=True))
    console = Console()
    for sentence in basin_findings(report):
        say(console, sentence, wrap=True)
    say(console, f"Report: {settings.out}/index.html")


inspect_basin_command = command(BasinSettings, inspect_basin)
