"""Reports: typed reading of `report.json`, one self-contained HTML page, one table for the terminal."""

from moored.report.pages.basin import render_basin
from moored.report.pages.gradients import render_gradients
from moored.report.pages.measure import render_comparison, render_figure, render_measure
from moored.report.pages.selection import render_selection, selection_findings
from moored.report.pages.spectrum import render_spectrum, spectrum_findings
from moored.report.pages.terminal import (
    agreement_table,
    gradients_table,
    labels_table,
    measure_table,
    summary_table,
)
from moored.report.reading.measure import MeasureReport, read_measure
from moored.report.reading.record import SCHEMA, Report, redraw
from moored.report.words.basin_findings import basin_findings

__all__ = [
    "SCHEMA",
    "MeasureReport",
    "Report",
    "agreement_table",
    "basin_findings",
    "gradients_table",
    "labels_table",
    "measure_table",
    "read_measure",
    "redraw",
    "render_basin",
    "render_comparison",
    "render_figure",
    "render_gradients",
    "render_measure",
    "render_selection",
    "render_spectrum",
    "selection_findings",
    "spectrum_findings",
    "summary_table",
]
