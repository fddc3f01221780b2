"""What each repair of the main attack leaves of compliance, against what it costs in over-refusal.

Lines are of the first seed, single marks of all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trials.recovery_arms import MAIN, RANKS, SMALL
from moored.report.figures.curves import Curve, curves_plot
from moored.report.figures.svg import ABLE, CAUTION, INK, MUTED, RISK
from moored.report.pages.html import save_figure

Row = dict[str, Any]
COMPLIANCE, PRICE = "JailbreakBench", "over-refusal"
MARKS = {
    "aligned": ("before the attack", INK, "*"),
    "attacked": ("not repaired", RISK, "X"),
    f"benign{SMALL}": ("control: ordinary answer", MUTED, "v"),
    f"random-words{SMALL}": ("control: words without sense", MUTED, "^"),
    "linear_pull-0.5": ("linear pull, half", CAUTION, "P"),
    "safe_lora-1": ("Safe LoRA", CAUTION, "p"),
    "adapter": ("published words", ABLE, "D"),
}
"""Repairs of one point each."""


def write_figure(table: Row, path: Path) -> None:
    """Draws what `table.json` holds, as far as it was run; nothing where the main attack was not."""
    if MAIN not in table["attacks"]:
        return
    found = {**table["references"], **table["attacks"][MAIN]}
    start = [found["attacked"]] if "attacked" in found else []
    directions = [found[name] for name in (*(f"full-rank-{k}" for k in RANKS), "full-auto") if name in found]
    lines = {
        "auto, step by step": (ABLE, "o", [*start, *table["steps"].values()]),
        f"all weights: {', '.join(map(str, RANKS))}, all directions": (CAUTION, "s", [*start, *directions]),
    }
    curves = [_curve(label, *look) for label, look in lines.items() if len(look[2]) > len(start)]
    curves += [_mark(*look, found[name]) for name, look in MARKS.items() if name in found]
    if not curves:
        return
    svg = curves_plot(
        curves,
        name="repairs",
        title="Compliance with harmful requests against over-refusal",
        across="over-refusal",
        up="complied (lower is safer)",
        description="; ".join(f"{each.label}: {_told(each)}" for each in curves) + ".",
    )
    save_figure(svg, path)


def _curve(label: str, color: str, marker: str, rows: Sequence[Row]) -> Curve:
    """Of the first seed: single steps were looked at in no other."""
    across, up = ([row[name]["seeds"][0]["rate"] for row in rows] for name in (PRICE, COMPLIANCE))
    return Curve(label=label, across=across, up=up, color=color, marker=marker)


def _mark(label: str, color: str, marker: str, row: Row) -> Curve:
    """Of all seeds."""
    return Curve(label=label, across=[row[PRICE]["rate"]], up=[row[COMPLIANCE]["rate"]], color=color, marker=marker)


def _told(curve: Curve) -> str:
    return ", ".join(f"{x:.2f} and {y:.2f}" for x, y in zip(curve.across, curve.up, strict=True))
