"""The summary of one or several reports as a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from moored.measurement import MEASURES, Measure, Outcome
from moored.report.reading.arms import Arm, comparison_arms, measure_arms
from moored.report.reading.gradients import GradientsReport
from moored.report.reading.judge import JudgeReport
from moored.report.reading.measure import MeasureReport
from moored.report.words.findings import moved
from moored.report.words.gradient_findings import estimate, signed
from moored.report.words.judge_findings import share
from moored.report.words.number_format import MISSING, interval, point, size
from moored.terminal import plain

_STYLES = {Outcome.WORSE: "red", Outcome.BETTER: "green"}


def summary_table(reports: Mapping[str, Path]) -> Table:
    """A column for each report, in order; the others are compared with the first.

    Args:
        reports: the report folders by what they are called.

    Raises:
        InputError: a report is missing or broken.
    """
    return _table(comparison_arms(reports))


def measure_table(report: MeasureReport) -> Table:
    """A column for the model, after one for the reference if there is one."""
    return _table(measure_arms(report))


def _table(arms: Sequence[Arm]) -> Table:
    """A row for each measure that was taken; each number with its interval, its n, and whether it moved."""
    # Five columns with their intervals whole just fit into 80 characters when nothing pads them.
    padding = (0, 1 if len(arms) < 4 else 0, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    table.caption, table.caption_justify = _caption(arms), "left"
    table.add_column("", min_width=12)
    for arm in arms:
        table.add_column(Text(arm.name), overflow="fold")
    for measure in MEASURES.values():
        if any(arm.estimate(measure.key) for arm in arms):
            table.add_row(*_row(arms, measure))
    return table


def _caption(arms: Sequence[Arm]) -> str:
    brackets = "95 % intervals in brackets"
    if not any(comparison.is_beyond_chance for arm in arms for comparison in arm.comparison.values()):
        return brackets
    return f"{brackets}; ▲ ▼ differ from {arms[0].name} beyond chance (paired test, 5 %)"


def _row(arms: Sequence[Arm], measure: Measure) -> list[Text]:
    """The size n stands once beside the name where it is the same for all, else in every cell."""
    sizes = {size(estimate) for arm in arms if (estimate := arm.estimate(measure.key))}
    shared = len(sizes) == 1
    head = Text(measure.label)
    if shared:
        head.append(f"\n{sizes.pop()}", style="dim")
    return [head] + [_cell(arm, measure, with_size=not shared) for arm in arms]


def _cell(arm: Arm, measure: Measure, *, with_size: bool) -> Text:
    estimate, comparison = arm.estimate(measure.key), arm.comparison.get(measure.key)
    if estimate is None:
        return Text(MISSING, style="dim")
    sign = {"higher": " ▲", "lower": " ▼"}.get(moved(comparison), "")
    style = _STYLES.get(comparison.outcome, "") if comparison is not None else ""
    text = Text(f"{point(measure, estimate.value)}{sign}", style=style)
    if with_size:
        text.append(f" {size(estimate)}", style="dim")
    return text.append(f"\n{interval(measure, estimate)}", style="dim")


def labels_table(report: JudgeReport) -> Table:
    """Shows how many answers `moored judge` gave each label."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("label")
    table.add_column("answers", justify="right")
    for label, count in report.labels.items():
        table.add_row(label, str(count))
    return table


def agreement_table(report: JudgeReport) -> Table:
    """Shows how far the judge agrees with the given labels, on all answers and on those that it decided."""
    columns = {"all": report.agreement, "decided": report.agreement_decided}
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.caption, table.caption_justify = "95 % intervals in brackets; a refusal is the positive class", "left"
    table.add_column("")
    for name, found in columns.items():
        table.add_column(f"{name}, n={0 if found is None else found.n}")
    for name in ("precision", "recall", "f1", "kappa"):
        table.add_row(name, *(share(found and getattr(found, name)) for found in columns.values()))
    return table


def gradients_table(report: GradientsReport) -> Table:
    """Shows the correlations, the largest shares, and the cosines of `moored inspect gradients`."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=False)
    table.caption, table.caption_justify = "95 % intervals in brackets", "left"
    table.add_row("norm and length, rho", signed(report.correlations.length))
    table.add_row("norm and loss, rho", signed(report.correlations.loss))
    for kind, rows in (("kind", report.shares.kind), ("layer", report.shares.layer)):
        measured = [row for row in rows if row.share.mean is not None]
        for row in sorted(measured, key=lambda row: -(row.share.mean or 0.0))[:3]:
            name = "outside the layers" if row.name == "outside" else f"of {kind} {row.name}"
            table.add_row(plain(f"share {name}"), estimate(row.share))
    if report.base_direction is not None:
        together = report.base_direction.together
        for name, mean in together.groups.items():
            table.add_row(f"cosine with the base direction, {name}", signed(mean, 3))
        table.add_row("norm and cosine, rho", signed(together.norm_cosine))
    return table
