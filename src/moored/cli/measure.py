"""`moored measure`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.measure.settings import MeasureSettings


def measure(settings: MeasureSettings) -> None:
    """Measures attack success, over-refusal, coherence, task accuracy and drift of a model or adapter, with intervals.

    Run an interrupted measurement again to resume it.
    """
    quiet_libraries()
    from moored.report import measure_table
    from moored.report.reading.answers import unfinished as unfinished_of
    from moored.report.words.outcomes import unfinished, with_judge_error
    from moored.workflows.measure.run import measure

    report = measure(settings, console=Console(stderr=True))
    console = Console()
    console.print(measure_table(report))
    if error := with_judge_error(report.estimates):
        say(console, f"\n{error}", wrap=True)
    alone = unfinished(report.model.name, unfinished_of(report.answers), len(report.answers))
    if report.against is None and alone:
        say(console, f"\n{alone}", wrap=True)
    if report.against is not None:
        say(console, f"\n{report.against.sentence}", wrap=True)
        if report.against.next_command:
            say(console, f"Next: {report.against.next_command}")
    say(console, f"Report: {settings.out}/index.html")


measure_command = command(MeasureSettings, measure)
