"""`moored measure`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.workflows.measure.settings import MeasureSettings


def measure(settings: MeasureSettings) -> None:
    """Measures attack success, over-refusal, coherence, task accuracy and drift of a model or adapter, with intervals.

    Run an interrupted measurement again to resume it.
    """
    quiet_libraries()
    from moored.report import measure_table
    from moored.workflows.measure.run import measure

    report = measure(settings, console=Console(stderr=True))
    console = Console(highlight=False, soft_wrap=True)
    console.print(measure_table(report), soft_wrap=False)
    if report.against is not None:
        console.print(f"\n{report.against.sentence}", markup=False)
        if report.against.next_command:
            console.print(f"Next: {report.against.next_command}", markup=False)
    console.print(f"Report: {settings.out}/index.html", markup=False)


measure_command = command(MeasureSettings, measure)
