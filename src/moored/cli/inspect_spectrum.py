"""`moored inspect spectrum`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.workflows.inspect.settings import SpectrumSettings


def inspect_spectrum(settings: SpectrumSettings) -> None:
    """Shows how few directions the gradient of a safety example has, compared with a benign example of equal length."""
    quiet_libraries()
    from moored.report import spectrum_findings
    from moored.workflows.inspect import spectrum

    report = spectrum.inspect_spectrum(settings, console=Console(stderr=True))
    console = Console(highlight=False, soft_wrap=True)
    for sentence in spectrum_findings(report):
        console.print(sentence)
    console.print(f"Report: {settings.out}/index.html", markup=False)


inspect_spectrum_command = command(SpectrumSettings, inspect_spectrum)
