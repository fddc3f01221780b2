"""The summary of one or several reports as a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from moored.report.reading.arms import Arm, comparison_arms, measure_arms
from moored.report.reading.gradients import GradientsReport
from moored.report.words.findings import mark
from moored.report.words.gradient_findings import estimate, signed
from moored.report.words.numbers import MEASURES, MISSING, Measure, interval, point


def summary_table(reports: Mapping[str, Path]) -> Table:
    """A row per measure and a column per report, in order; each number with its interval and n.

    Args:
        reports: what to call it → its folder. A single report that was compared with another model brings that
            model as a column of its own.

    Raises:
        InputError: a report is missing or broken.
    """
    arms = comparison_arms(reports)
    if len(arms) == 1 and arms[0].report.against is not None:
        arms = measure_arms(next(iter(reports.values())))
    # Five columns with their intervals whole just fit into 80 characters when nothing pads them.
    padding = (0, 1 if len(arms) < 4 else 0, 0, 0)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=padding)
    table.caption, table.caption_justify = "95 % intervals in brackets", "left"
    table.add_column("", min_width=12)
    for arm in arms:
        table.add_column(Text(arm.name), overflow="fold")
    for measure in MEASURES:
        if any(arm.estimate(measure.key) for arm in arms):
            table.add_row(*_row(arms, measure))
    return table


def _row(arms: Sequence[Arm], measure: Measure) -> list[Text]:
    """The size n stands once beside the name where it is the same for all, else in every cell."""
    sizes = {estimate.n for arm in arms if (estimate := arm.estimate(measure.key))}
    shared = len(sizes) == 1
    head = Text(measure.label)
    if shared:
        head.append(f"\nn={sizes.pop()}", style="dim")
    return [head] + [_cell(arm, arms[0], measure, with_n=not shared) for arm in arms]


def _cell(arm: Arm, first: Arm, measure: Measure, *, with_n: bool) -> Text:
    estimate = arm.estimate(measure.key)
    if estimate is None:
        return Text(MISSING, style="dim")
    side = mark(arm, first, measure)
    style = "" if side is None else "red" if side == measure.worse else "green"
    text = Text(point(measure, estimate.value), style=style)
    if with_n:
        text.append(f" n={estimate.n}", style="dim")
    return text.append(f"\n{interval(measure, estimate)}", style="dim")


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
            table.add_row(f"share {name}", estimate(row.share))
    if report.base_direction is not None:
        together = report.base_direction.together
        for name, mean in together.groups.items():
            table.add_row(f"cosine with the base direction, {name}", signed(mean, 3))
        table.add_row("norm and cosine, rho", signed(together.norm_cosine))
    return table
