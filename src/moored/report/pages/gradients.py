"""The page of `moored inspect gradients`."""

from collections.abc import Sequence
from pathlib import Path

from moored.measurement import Correlation
from moored.report.figures.interval_rows import Look, Row, intervals_plot, layers_plot
from moored.report.figures.plot import Plot
from moored.report.figures.scatter import Cloud, scatter_plot
from moored.report.figures.svg import INK, MUTED
from moored.report.pages.base_direction import GROUPS, as_estimate, base_direction_plots
from moored.report.pages.html import write_page
from moored.report.reading.gradients import (
    GradientsReport,
    SampleRecord,
    ShareRecord,
    SharesRecord,
    read_gradients,
)
from moored.report.reading.record import page_of
from moored.report.words.gradient_findings import estimate, findings, interval, remarks, signed

_OUTSIDE = "outside"


@page_of(GradientsReport)
def render_gradients(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect gradients`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_gradients(folder)
    compared = report.base_direction
    return write_page(
        folder,
        "gradients.html.j2",
        title=f"Gradients of {report.model}",
        findings=findings(report),
        remarks=remarks(report),
        report=report,
        glance=_scatters(report),
        shares=_shares(report.shares),
        compared=compared,
        cosines=[] if compared is None else base_direction_plots(compared),
        estimate=estimate,
        interval=interval,
        signed=signed,
        groups=["all", *GROUPS],
    )


def _scatters(report: GradientsReport) -> list[Plot]:
    plots = [
        _scatter(report, "length", report.correlations.length, "supervised tokens"),
        _scatter(report, "loss", report.correlations.loss, "loss, nats per token"),
    ]
    return [plot for plot in plots if plot is not None]


def _scatter(report: GradientsReport, key: str, correlation: Correlation, scale: str) -> Plot | None:
    clouds = [
        Cloud(label="other", points=_points(report.samples, key, None), color=MUTED, marker="."),
        *(
            Cloud(label=name, points=_points(report.samples, key, name), color=color, marker=marker)
            for name, (color, marker) in GROUPS.items()
        ),
    ]
    words = f"Spearman’s rho {signed(correlation)}"
    svg = scatter_plot(
        clouds,
        name=f"norm-{key}",
        title=f"Gradient norm against {key}",
        across=scale,
        up="gradient norm",
        description=f"{words}.",
    )
    remark = f"{words}. Coloured: the {report.keep:.0%} that each rule keeps; moderate is the published one."
    return None if svg is None else Plot(heading=f"Norm against {key}", remark=remark, svg=svg)


def _points(samples: Sequence[SampleRecord], key: str, group: str | None) -> list[tuple[float, float]]:
    """Collects the points of a group; None stands for the samples that are in no group."""
    chosen = [sample for sample in samples if (group in sample.groups if group else not sample.groups)]
    return [(float(getattr(sample, key)), sample.norm) for sample in chosen]


def _shares(shares: SharesRecord) -> list[Plot]:
    parts = [
        ("kind", shares.kind, "Which weights", "The same by kind of weight, all layers together."),
        ("factor", shares.factor, "Which factor of LoRA", "A reads, B writes."),
    ]
    plots = [_share_rows(*part) for part in parts if part[1]]
    return [*_layers(shares.layer), *plots]


def _layers(rows: Sequence[ShareRecord]) -> list[Plot]:
    measured = {row.name: mark for row in rows if (mark := as_estimate(row.share)) is not None}
    layers = {int(name): mark for name, mark in measured.items() if name != _OUTSIDE}
    if not layers:
        return []
    svg = layers_plot(layers, name="layers", title="Share of each layer", axis="share of the squared norm")
    outside = "".join(f" {estimate(row.share)} of it lies outside the layers." for row in rows if row.name == _OUTSIDE)
    remark = f"Mean over the samples of a layer’s part of the squared norm, with 95 % intervals.{outside}"
    return [Plot(heading="Which layers", remark=remark, svg=svg)]


def _share_rows(name: str, rows: Sequence[ShareRecord], heading: str, remark: str) -> Plot:
    marks = [Row(label=row.name, marks=[as_estimate(row.share)]) for row in rows]
    looks = [Look(label="share", color=INK, marker="o")]
    svg = intervals_plot(marks, looks, name=name, title=heading, axis="share of the squared norm", zero=True)
    return Plot(heading=heading, remark=remark, svg=svg)
