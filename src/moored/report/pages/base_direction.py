"""The plots of how far updates point along the base direction."""

from moored.measurement import Alignment, Correlation, Estimate, Mean
from moored.report.figures.interval_rows import Look, Row, intervals_plot
from moored.report.figures.plot import Plot
from moored.report.figures.svg import ABLE, CAUTION, INK, RISK
from moored.report.reading.gradients import BaseDirectionRecord

GROUPS = {"high": (RISK, "o"), "moderate": (ABLE, "s"), "low": (CAUTION, "D")}
"""The color and the marker of each group of samples."""


def base_direction_plots(compared: BaseDirectionRecord) -> list[Plot]:
    """Draws the cosines of updates with the base direction, and their correlation with the gradient norm."""
    return [_cosines(compared), _rhos(compared)]


def as_estimate(statistic: Mean | Correlation) -> Estimate | None:
    """Turns a mean or a correlation into what plots draw; None where there is no number."""
    value = statistic.mean if isinstance(statistic, Mean) else statistic.rho
    return None if value is None else Estimate(value=value, low=statistic.low, high=statistic.high, n=statistic.n)


def _cosines(compared: BaseDirectionRecord) -> Plot:
    rows = [
        Row(
            label=label,
            marks=[as_estimate(cosines.groups[group]) for group in GROUPS],
            bands=[cosines.control_means[group] for group in GROUPS],
        )
        for label, cosines in _compared(compared)
    ]
    looks = [Look(label=name, color=color, marker=marker) for name, (color, marker) in GROUPS.items()]
    svg = intervals_plot(rows, looks, name="cosines", title="Cosines", axis="mean cosine", zero=True)
    remark = f"Right of 0, updates point towards the base. Lines are 95 % intervals. {_control(compared)}."
    return Plot(heading="Cosine of the update with the base direction", remark=remark, svg=svg)


def _rhos(compared: BaseDirectionRecord) -> Plot:
    rows = [
        Row(label=label, marks=[as_estimate(cosines.norm_cosine)], bands=[cosines.control_rho])
        for label, cosines in _compared(compared)
    ]
    looks, title = [Look(label="rho", color=INK, marker="o")], "Spearman’s rho of norm and cosine"
    svg = intervals_plot(rows, looks, name="rhos", title=title, axis="rho", zero=True)
    remark = f"{title}; right of 0 they do. {_control(compared)}."
    return Plot(heading="Do larger gradients point more towards the base?", remark=remark, svg=svg)


def _compared(compared: BaseDirectionRecord) -> list[tuple[str, Alignment]]:
    matrices = [(f"{matrix.layer} · {matrix.kind}", matrix.cosines) for matrix in compared.matrices]
    return [("together", compared.together), *matrices]


def _control(compared: BaseDirectionRecord) -> str:
    return f"Grey: 95 % of {compared.draws} directions of the same coordinates and magnitudes with shuffled signs"
