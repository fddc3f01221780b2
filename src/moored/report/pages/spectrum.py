"""The page of `moored inspect spectrum`."""

from pathlib import Path

from moored.measurement import Estimate, quartiles
from moored.report.figures.curves import Curve, curves_plot
from moored.report.figures.interval_rows import Look, Row, intervals_plot
from moored.report.figures.plot import Plot
from moored.report.figures.svg import ABLE, RISK
from moored.report.pages.html import write_page
from moored.report.reading.record import page_of, read_record
from moored.report.reading.spectrum import GradientSummary, Quartiles, SpectrumReport

_LOOKS = {
    "example": Look(label="safety", color=RISK, marker="o"),
    "benign": Look(label="benign", color=ABLE, marker="s"),
}


@page_of(SpectrumReport)
def render_spectrum(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect spectrum`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_record(SpectrumReport, folder)
    return write_page(
        folder,
        "spectrum.html.j2",
        title=f"Safety gradient of {report.model}",
        findings=spectrum_findings(report),
        report=report,
        glance=spectrum_plots(report),
        between=between,
    )


def between(spread: Quartiles, digits: int = 2) -> str:
    """Writes the median between the quartiles, as in `0.92 [0.88, 0.95]`."""
    return f"{spread.median:.{digits}f} [{spread.low:.{digits}f}, {spread.high:.{digits}f}]"


def spectrum_findings(report: SpectrumReport) -> list[str]:
    """States what was found, in sentences: medians over the matrices, with their quartiles."""
    safety, control = report.summary.example, report.summary.benign
    k, tokens = "20", report.example.tokens
    return [
        f"The 20 main directions of the safety example hold {between(safety.energy[k])} of its gradient, those of a "
        f"benign example of equal length {between(control.energy[k])}; with {tokens} tokens no gradient can have "
        f"a rank above {tokens}.",
        f"Effective rank: {between(safety.effective_rank, 1)}, of the benign one {between(control.effective_rank, 1)}.",
        f"Overlap of the {report.top} main directions with those of {report.batch} safety examples: "
        f"{between(safety.overlap)}; of the benign example {between(control.overlap)}, of random spaces "
        f"{between(report.summary.chance)}.",
        f"Cosine with the gradient of complying: {between(safety.cosine)}, of the benign one "
        f"{between(control.cosine)}.",
    ]


def spectrum_plots(report: SpectrumReport) -> list[Plot]:
    """Draws the energy of the main directions, and overlap and cosine by kind of matrix."""
    return [_energy(report), _by_kind(report, "overlap"), _by_kind(report, "cosine")]


def _energy(report: SpectrumReport) -> Plot:
    curves = [_curve(report.summary.benign, _LOOKS["benign"]), _curve(report.summary.example, _LOOKS["example"])]
    words = "; ".join(f"{curve.label}: {', '.join(f'{value:.2f}' for value in curve.up)}" for curve in curves)
    svg = curves_plot(
        curves,
        name="energy",
        title="Cumulative energy",
        across="directions",
        up="share of the squared gradient",
        description=f"Medians at {', '.join(report.summary.example.energy)} directions. {words}.",
    )
    remark = "Medians over all matrices, between the quartiles. Only what the benign example lacks is about safety."
    return Plot(heading="How much a few directions hold", remark=remark, svg=svg)


def _curve(summary: GradientSummary, look: Look) -> Curve:
    spreads = summary.energy.values()
    return Curve(
        label=look.label,
        across=[float(k) for k in summary.energy],
        up=[spread.median for spread in spreads],
        low=[spread.low for spread in spreads],
        high=[spread.high for spread in spreads],
        color=look.color,
        marker=look.marker,
    )


def _by_kind(report: SpectrumReport, measure: str) -> Plot:
    kinds = list(dict.fromkeys(matrix.kind for matrix in report.matrices))
    rows = [Row(label=kind, marks=[_median(report, kind, which, measure) for which in _LOOKS]) for kind in kinds]
    heading = {"overlap": "Do all refusals share directions?", "cosine": "Against the gradient of complying"}[measure]
    remark = {
        "overlap": f"Overlap of the {report.top} main directions with those of {report.batch} safety examples.",
        "cosine": f"Cosine with the mean gradient of {report.batch} compliant response prefixes; −1 is opposite.",
    }[measure]
    svg = intervals_plot(
        rows, list(_LOOKS.values()), name=measure, title=heading, axis=measure, zero=measure == "cosine"
    )
    return Plot(heading=heading, remark=f"{remark} Medians over the layers, between the quartiles.", svg=svg)


def _median(report: SpectrumReport, kind: str, which: str, measure: str) -> Estimate:
    values = [getattr(getattr(matrix, which), measure) for matrix in report.matrices if matrix.kind == kind]
    low, median, high = quartiles(values)
    return Estimate(value=median, low=low, high=high, n=len(values))
