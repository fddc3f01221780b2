"""The page of a selection."""

from pathlib import Path

from moored.errors import InputError
from moored.report.figures.plot import Plot
from moored.report.figures.selection import histogram_plot, lengths_plot
from moored.report.pages.html import write_page
from moored.report.reading.record import page_of, read_record
from moored.report.reading.selection import CorrelationRecord, SelectReport

_QUANTITIES = {"norm": "Gradient norm", "loss": "Loss (nats a token)", "tokens": "Supervised tokens"}
_QUANTILES = {
    "min": "lowest",
    "q05": "5 %",
    "q25": "25 %",
    "median": "median",
    "q75": "75 %",
    "q95": "95 %",
    "max": "highest",
}
_EXAMPLES = {
    "lowest": "The lowest gradient norms",
    "kept_middle": "Kept rows of middle norm",
    "highest": "The highest gradient norms",
}


def render_selection(report: SelectReport, out: Path) -> Path:
    """Writes `out/index.html`.

    Args:
        report: a finished selection.
        out: the folder to write into; it may hold other files.

    Returns:
        The file that was written.

    Raises:
        InputError: `out` cannot be written.
    """
    return write_page(
        out,
        "selection.html.j2",
        title=f"Rows selected from {Path(report.data.name).name}",
        findings=[_lead(report), *selection_findings(report)],
        plots=_plots(report),
        quantiles=list(_QUANTILES.values()),
        quantities=_quantities(report),
        overlaps=[(name.replace("_", " "), overlap) for name, overlap in report.found.overlap.items()],
        rule=report.settings["rule"].replace("_", " "),
        examples=[(heading, report.examples[name]) for name, heading in _EXAMPLES.items()],
        report=report,
    )


@page_of(SelectReport)
def redraw_selection(folder: Path) -> Path:
    """Writes `index.html` beside the `report.json` of `moored select`.

    Raises:
        InputError: the report is broken or of a selection that has not ended, or its folder cannot be written.
    """
    report = read_record(SelectReport, folder)
    if not report.finished:
        raise InputError(f"{folder} holds a selection that has not ended; run moored select again with --resume.")
    return render_selection(report, folder)


def _lead(report: SelectReport) -> str:
    rows = report.found.rows
    return (
        f"The rule {report.settings['rule'].replace('_', ' ')} keeps {rows.kept:,} of {rows.all:,} rows, chosen once "
        "over the whole data set, at the weights that training would start from."
    )


def selection_findings(report: SelectReport) -> list[str]:
    """States what the numbers say, in a sentence or two each, the length confound first."""
    sentences = [_about_length(report), _about_kept_lengths(report), _about_loss(report), *_about_rows(report)]
    if report.settings["parameters"] == "lora":
        sentences.append(
            "The gradients are those of a new LoRA. Its factors B are zero at the start, so only they have a gradient "
            "there, and the norms are not those of all weights."
        )
    sentences.append(
        "This is static selection: the safeguard gradient_selection of moored train re-selects at each optimizer step, "
        "at the running weights, and may keep other rows."
    )
    return sentences


def _about_length(report: SelectReport) -> str:
    correlation = report.found.length_confound.norm_and_tokens
    sentence = f"Gradient norm and answer length: {_correlation(correlation)}."
    if correlation.rho is None or correlation.low is None or correlation.high is None:
        return sentence
    if correlation.low <= 0 <= correlation.high:
        return sentence
    which = "short" if correlation.rho < 0 else "long"
    return (
        f"{sentence} Rows with {which} answers have the larger norms, so a choice by norm is also a choice by length."
    )


def _about_loss(report: SelectReport) -> str:
    return f"Gradient norm and loss: {_correlation(report.found.length_confound.norm_and_loss)}."


def _correlation(correlation: CorrelationRecord) -> str:
    if correlation.rho is None:
        return f"no rank correlation, since one of them does not vary (n={correlation.n:,})"
    limits = "" if correlation.low is None else f" [{correlation.low:.2f}, {correlation.high:.2f}]"
    return f"Spearman’s ρ = {correlation.rho:.2f}{limits}, n={correlation.n:,}".replace("-", "−")


def _about_kept_lengths(report: SelectReport) -> str:
    longer, tokens = report.found.length_confound.kept_longer_than_left_out, report.found.quantiles["tokens"]
    kept_median, every_median = f"{tokens.kept.median:g}", f"{tokens.all.median:g}"
    medians = f"The median answer has {kept_median} scored tokens among the kept rows, {every_median} among all"
    if longer.probability is None:
        return f"{medians}; no row was left out."
    limits = "" if longer.low is None else f" [{longer.low:.2f}, {longer.high:.2f}]"
    kept, left = longer.n
    return (
        f"{medians}. A kept row’s answer is longer than a left-out one’s with probability "
        f"{longer.probability:.2f}{limits} (n={kept:,} and {left:,}); 0.5 would be no difference."
    )


def _about_rows(report: SelectReport) -> list[str]:
    rows, length = report.found.rows, report.settings["max_length"]
    counts = {
        f"Rows without a supervised token within {length} tokens: {rows.without_supervised_token:,}. They count in the "
        "share to keep, and are never kept.": rows.without_supervised_token,
        f"Rows longer than {length} tokens, scored on their beginning alone: {rows.cut_at_max_length:,}. Their answers "
        "count as shorter here than they are; a kept row is written whole.": rows.cut_at_max_length,
    }
    return [sentence for sentence, count in counts.items() if count]


def _plots(report: SelectReport) -> list[Plot]:
    shown, scored = len(report.found.points), report.found.rows.scored
    some = "" if shown == scored else f"{shown:,} of {scored:,} rows, taken evenly over the file. "
    plots = [
        Plot(
            heading="How large the gradients are",
            remark=f"Rows by gradient norm, n={scored:,}. The band is the range of the kept "
            "rows; a row within it may be left out.",
            svg=histogram_plot(report.found),
        )
    ]
    lengths = lengths_plot(report.found)
    if lengths is not None:
        remark = f"{some}A slope means that the norm depends on length, too."
        plots.append(Plot(heading="How they go with length", remark=remark, svg=lengths))
    return plots


def _quantities(report: SelectReport) -> list[tuple[str, str, int, list[str]]]:
    """Lists the label, which rows, how many, and their quantiles."""
    sizes = {"all": report.found.rows.scored, "kept": report.found.rows.kept}
    return [
        (label, which, size, [f"{getattr(getattr(both, which), quantile):.4g}" for quantile in _QUANTILES])
        for name, label in _QUANTITIES.items()
        for both in [report.found.quantiles[name]]
        for which, size in sizes.items()
    ]
