"""`moored select`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.workflows.select.settings import SelectSettings


def select(settings: SelectSettings) -> None:
    """Experimental: chooses the rows to train on, once and before training, by their gradients; nothing is trained."""
    quiet_libraries()
    from moored.report import selection_findings
    from moored.workflows.select import run

    report = run.select(settings, console=Console(stderr=True))
    console = Console(highlight=False, soft_wrap=True, markup=False)
    assert report.files is not None
    rows = report.found.rows
    console.print(f"Kept {rows.kept} of {rows.all} rows by the rule {settings.rule}.")
    for sentence in selection_findings(report)[:2]:
        console.print(sentence)
    console.print(f"Kept rows: {settings.out / report.files.kept}; name it as the dataset of moored train.")
    console.print(f"Report: {settings.out / 'index.html'}")


select_command = command(SelectSettings, select)
