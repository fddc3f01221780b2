"""The page of `moored inspect gradients`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moored.files import read_jsonl
from moored.measurement import Estimate
from moored.report.figures.interval_rows import Look, Row, intervals_plot, layers_plot
from moored.report.figures.plot import Plot
from moored.report.figures.scatter import Cloud, scatter_plot
from moored.report.figures.svg import ABLE, CAUTION, INK, MUTED, RISK
from moored.report.pages.html import write_page
from moored.report.reading.kinds import read_kind
from moored.report.words.gradient_findings import estimate, findings, interval, remarks, signed, told

_GROUPS = {"high": (RISK, "o"), "moderate": (ABLE, "s"), "low": (CAUTION, "D")}
_OUTSIDE = "outside"


def render_gradients(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored inspect gradients`.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or of another kind, or its folder cannot be written.
    """
    report = read_kind(folder, "inspect gradients")
    lines = read_jsonl(Path(folder) / "samples.jsonl")
    return write_page(
        folder,
        "gradients.html.j2",
        title=f"Gradients of {told(report['model'])}",
        findings=findings(report),
        remarks=remarks(report),
        report=report,
        glance=_scatters(lines, report),
        closer=_shares(report),
        reversion=report["reversion"],
        back=_reversion(report["reversion"]),
        estimate=estimate,
        interval=interval,
        signed=signed,
        groups=["all", *_GROUPS],
    )


def _scatters(lines: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[Plot]:
    share = f"{report['keep']:.0%}"
    found = []
    for key, scale in (("length", "supervised tokens"), ("loss", "loss, nats per token")):
        clouds = [Cloud(label="other", points=_points(lines, key, None), color=MUTED, marker=".")] + [
            Cloud(label=name, points=_points(lines, key, name), color=color, marker=marker)
            for name, (color, marker) in _GROUPS.items()
        ]
        words = f"Spearman’s rho {signed(report['correlations'][key], 'rho')}"
        svg = scatter_plot(
            clouds,
            name=f"norm-{key}",
            title=f"Gradient norm against {key}",
            across=scale,
            up="gradient norm",
            description=f"{words}.",
        )
        if svg is not None:
            remark = f"{words}. Coloured: the {share} that each rule keeps; moderate is the published one."
            found.append(Plot(heading=f"Norm against {key}", remark=remark, svg=svg))
    return found


def _points(lines: Sequence[Mapping[str, Any]], key: str, group: str | None) -> list[tuple[float, float]]:
    """Of a group; None stands for what is in no group."""
    chosen = [line for line in lines if (group in line["groups"] if group else not line["groups"])]
    return [(float(line[key]), line["norm"]) for line in chosen]


def _shares(report: Mapping[str, Any]) -> list[Plot]:
    shares = report["shares"]
    known = [(row["name"], found) for row in shares["layer"] if (found := _estimate(row)) is not None]
    layers = {int(name): found for name, found in known if name != _OUTSIDE}
    outside = next((row for row in shares["layer"] if row["name"] == _OUTSIDE), None)
    apart = f" {estimate(outside)} of it lies outside the layers." if outside else ""
    plots = []
    if layers:
        svg = layers_plot(layers, name="layers", title="Share of each layer", axis="share of the squared norm")
        remark = f"Mean over the samples of a layer’s part of the squared norm, with 95 % intervals.{apart}"
        plots.append(Plot(heading="Which layers", remark=remark, svg=svg))
    looks = [Look(label="share", color=INK, marker="o")]
    for key, heading in (("kind", "Which weights"), ("factor", "Which factor of LoRA")):
        rows = [Row(label=row["name"], marks=[_estimate(row)]) for row in shares[key]]
        if rows:
            svg = intervals_plot(rows, looks, name=key, title=heading, axis="share of the squared norm", zero=True)
            remark = "The same by kind of weight, all layers together." if key == "kind" else "A reads, B writes."
            plots.append(Plot(heading=heading, remark=remark, svg=svg))
    return plots


def _reversion(back: Mapping[str, Any]) -> list[Plot]:
    if "left_out" in back:
        return []
    rows = [("together", back["together"]), *((_short(each), each) for each in back["matrices"])]
    cosines = [
        Row(
            label=name,
            marks=[_estimate(each["cosine"][group]) for group in _GROUPS],
            bands=[_band(each["control"]["cosine"][group]) for group in _GROUPS],
        )
        for name, each in rows
    ]
    rhos = [
        Row(label=name, marks=[_estimate(each["norm_cosine"], "rho")], bands=[_band(each["control"]["rho"])])
        for name, each in rows
    ]
    looks = [Look(label=name, color=color, marker=marker) for name, (color, marker) in _GROUPS.items()]
    band = f"Grey: 95 % of {back['draws']} directions of the same coordinates and magnitudes with shuffled signs"
    return [
        Plot(
            heading="Cosine of the update with the way back",
            remark=f"Right of 0 leads back to the base. Lines are 95 % intervals. {band}.",
            svg=intervals_plot(cosines, looks, name="cosines", title="Cosines", axis="mean cosine", zero=True),
        ),
        Plot(
            heading="Do larger gradients lead back more?",
            remark=f"Spearman’s rho of norm and cosine; right of 0 they do. {band}.",
            svg=intervals_plot(
                rhos,
                [Look(label="rho", color=INK, marker="o")],
                name="rhos",
                title="Spearman’s rho of norm and cosine",
                axis="rho",
                zero=True,
            ),
        ),
    ]


def _short(matrix: Mapping[str, Any]) -> str:
    return f"{matrix['layer']} · {matrix['kind']}"


def _estimate(row: Mapping[str, Any], key: str = "mean") -> Estimate | None:
    return None if row[key] is None else Estimate(value=row[key], low=row["low"], high=row["high"], n=row["n"])


def _band(range_: Mapping[str, float] | None) -> tuple[float, float] | None:
    return None if range_ is None else (range_["low"], range_["high"])
