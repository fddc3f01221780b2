"""Reports: typed reading of `report.json`, one self-contained HTML page, one table for the terminal."""

from moored.report.basin import basin_findings, render_basin
from moored.report.gradients import render_gradients
from moored.report.page import render_comparison, render_figure, render_measure
from moored.report.schema import SCHEMA, Report, read_report
from moored.report.selection import render_selection, selection_findings
from moored.report.spectrum import render_spectrum, spectrum_findings
from moored.report.terminal import gradients_table, summary_table

__all__ = [
    "SCHEMA",
    "Report",
    "basin_findings",
    "gradients_table",
    "read_report",
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
