"""The page of `moored inspect spectrum`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moored.measurement import quartiles
from moored.report.figures.curves import Curve, curves_plot
from moored.report.figures.interval_rows import Look, Row, intervals_plot
from moored.report.figures.plot import Plot
from moored.report.figures.svg import ABLE, RISK
from moored.report.pages.html import write_page
from moored.report.reading.kinds import read_kind
from moored.report.reading.schema import Estimate
from moored.report.words.gradient_findings import told

_LOOKS = {
    "example": Look(label="safety", color=RISK, marker="o"),
    "benign": Look(label="benign", color=ABLE, marker="s"),
}


def render_spectrum(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect spectrum`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_kind(folder, "inspect spectrum")
    return write_page(
        folder,
        "spectrum.html.j2",
        title=f"Safety gradient of {told(report['model'])}",
        findings=spectrum_findings(report),
        report=report,
        glance=spectrum_plots(report),
        between=between,
    )


def between(row: Mapping[str, float], digits: int = 2) -> str:
    """`0.92 [0.88, 0.95]`, the median between the quartiles."""
    return f"{row['median']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def spectrum_findings(report: Mapping[str, Any]) -> list[str]:
    """What was found, in sentences; medians over the matrices between their quartiles."""
    ours, control = report["summary"]["example"], report["summary"]["benign"]
    k, tokens = "20", report["example"]["tokens"]
    return [
        f"The 20 main directions of the safety example hold {between(ours['energy'][k])} of its gradient, those of a "
        f"benign example of equal length {between(control['energy'][k])}; with {tokens} tokens no gradient can have "
        f"a rank above {tokens}.",
        f"Effective rank: {between(ours['effective_rank'], 1)}, of the benign one "
        f"{between(control['effective_rank'], 1)}.",
        f"Overlap of the {report['top']} main directions with those of {report['batch']} safety examples: "
        f"{between(ours['overlap'])}; of the benign example {between(control['overlap'])}, of random spaces "
        f"{between(report['summary']['chance'])}.",
        f"Cosine with the gradient of complying: {between(ours['cosine'])}, of the benign one "
        f"{between(control['cosine'])}.",
    ]


def spectrum_plots(report: Mapping[str, Any]) -> list[Plot]:
    """The energy of the main directions; overlap and cosine by kind of matrix."""
    return [_energy(report), _by_kind(report, "overlap"), _by_kind(report, "cosine")]


def _energy(report: Mapping[str, Any]) -> Plot:
    curves = []
    for kind in ("benign", "example"):
        energy = report["summary"][kind]["energy"]
        look = _LOOKS[kind]
        curves.append(
            Curve(
                label=look.label,
                across=[float(k) for k in energy],
                up=[each["median"] for each in energy.values()],
                low=[each["low"] for each in energy.values()],
                high=[each["high"] for each in energy.values()],
                color=look.color,
                marker=look.marker,
            )
        )
    words = "; ".join(f"{each.label}: {', '.join(f'{value:.2f}' for value in each.up)}" for each in curves)
    svg = curves_plot(
        curves,
        name="energy",
        title="Cumulative energy",
        across="directions",
        up="share of the squared gradient",
        description=f"Medians at {', '.join(report['summary']['example']['energy'])} directions. {words}.",
    )
    remark = "Medians over all matrices, between the quartiles. Only what the benign example lacks is about safety."
    return Plot(heading="How much a few directions hold", remark=remark, svg=svg)


def _by_kind(report: Mapping[str, Any], measure: str) -> Plot:
    kinds = list(dict.fromkeys(row["kind"] for row in report["matrices"]))
    rows = [Row(label=kind, marks=[_median(report, kind, which, measure) for which in _LOOKS]) for kind in kinds]
    heading = {"overlap": "Do all refusals share directions?", "cosine": "Against the gradient of complying"}[measure]
    remark = {
        "overlap": f"Overlap of the {report['top']} main directions with those of {report['batch']} safety examples.",
        "cosine": f"Cosine with the mean gradient of {report['batch']} compliant openings; −1 is opposite.",
    }[measure]
    svg = intervals_plot(
        rows, list(_LOOKS.values()), name=measure, title=heading, axis=measure, zero=measure == "cosine"
    )
    return Plot(heading=heading, remark=f"{remark} Medians over the layers, between the quartiles.", svg=svg)


def _median(report: Mapping[str, Any], kind: str, which: str, measure: str) -> Estimate:
    values = [row[which][measure] for row in report["matrices"] if row["kind"] == kind]
    low, median, high = quartiles(values)
    return Estimate(value=median, low=low, high=high, n=len(values))
