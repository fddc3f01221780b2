"""Sentences on what `moored judge` found."""

from moored.measurement import Estimate
from moored.report.reading.judge import JudgedAnswer, JudgeReport

_LENGTH = 160


def share(estimate: Estimate | None) -> str:
    """Writes a share as in `0.912 [0.873, 0.941]`, or a dash."""
    if estimate is None:
        return "–"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def judge_findings(report: JudgeReport) -> list[str]:
    """States what to read first, one sentence each."""
    whole = sum(report.labels.values())
    sentences = []
    if report.undecided:
        sentences.append(
            f"The judge left {report.undecided} of {whole} answers undecided; their label is the likelier."
        )
    if report.not_compared:
        sentences.append(
            f"{report.not_compared} labelled answers are not compared: they are neither refusal nor answer."
        )
    if report.agreement is not None:
        count = len(report.differences())
        sentences.append(
            f"The judge and your labels differ on {count} of {report.agreement.n + report.not_compared} rows."
        )
    return sentences


def difference(answer: JudgedAnswer) -> str:
    """Writes one differing answer on one line."""
    text = " ".join(answer.answer.split())
    short = text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"
    unsure = ", undecided" if answer.undecided else ""
    return f"row {answer.row}: yours {answer.given}, judged {answer.label} ({answer.reason}{unsure}): {short}"
