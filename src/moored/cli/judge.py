"""`moored judge`."""

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.judge.settings import JudgeSettings


def judge(settings: JudgeSettings) -> None:
    """Labels answers that a file holds, and tells how far the judge agrees with labels that you gave them."""
    quiet_libraries()
    from moored.report import agreement_table, labels_table
    from moored.report.words.judge_findings import difference, judge_findings
    from moored.workflows.judge.run import judge_answers

    report = judge_answers(settings, console=Console(stderr=True))
    console = Console()
    console.print(labels_table(report))
    if report.agreement is not None:
        console.print(agreement_table(report))
    for sentence in judge_findings(report):
        say(console, sentence, wrap=True)
    for answer in report.differences()[: settings.show]:
        say(console, difference(answer))
    if settings.out is not None:
        say(console, f"Report: {settings.out}")


judge_command = command(JudgeSettings, judge)
