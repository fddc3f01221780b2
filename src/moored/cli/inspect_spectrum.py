"""`moored inspect spectrum`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.inspect.settings import SpectrumSettings


def inspect_spectrum(settings: SpectrumSettings) -> None:
    """Shows how few directions the gradient of a safety example has, compared with a benign example of equal length."""
    quiet_libraries()
    from moored.report import spectrum_findings
    from moored.workflows.inspect import spectrum

    report = spectrum.inspect_spectrum(settings, console=Console(stderr=True))
    console = Console()
    for sentence in spectrum_findings(report):
        say(console, sentence, wrap=True)
    say(console, f"Report: {settings.out}/index.html")


inspect_spectrum_command = command(SpectrumSettings, inspect_spectrum)
