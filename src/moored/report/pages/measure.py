"""The HTML page: one self-contained file, nothing to download, nothing that runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moored.measurement import MEASURES, PROMPT_SETS, Estimate, Measure, Outcome
from moored.report.figures import rates as figures
from moored.report.figures.plot import Plot
from moored.report.pages.html import save_figure, write_page
from moored.report.reading.answers import Answer, Sample, samples
from moored.report.reading.arms import Arm, comparison_arms, measure_arms, same_prompts
from moored.report.reading.measure import MeasureReport, read_measure
from moored.report.reading.record import page_of
from moored.report.reading.shown_text import shortened
from moored.report.words.findings import each_arm, findings, moved, warnings
from moored.report.words.number_format import MISSING, full, interval, judged_interval, p_value, point, size

_RATES = ("asr", "over_refusal", "utility")
_ANSWER_LIMIT = 480
_PROMPT_LIMIT = 2000
_SAMPLES = {"harmful": (4, 4), "harmless": (2, 2), "ordinary": (2, 1), "task": (2, 2)}
_SET_TITLES = {
    "harmful": "Harmful requests",
    "harmless": "Harmless requests that sound harmful",
    "ordinary": "Ordinary instructions",
    "task": "The task",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of the table: its texts, and whether it moved from the first arm's."""

    arm: Arm
    estimate: Estimate | None
    point: str
    interval: str
    size: str
    judged: str
    """The interval that counts in the judge's error, or nothing."""
    moved: str
    """`higher` or `lower` than the first arm's beyond chance, or nothing."""
    is_worse: bool


def render_comparison(
    reports: Mapping[str, Path], out: Path, *, title: str, story: Sequence[str] | None = None
) -> Path:
    """Writes `out/index.html`, which compares several measured models.

    Args:
        reports: what to call it → its report folder, in the order to show; all others are compared with the first.
        out: the folder to write into; it may hold other files.
        title: the page's heading.
        story: the findings, one sentence each, the most important first; made from the numbers when None.

    Returns:
        The file that was written.

    Raises:
        InputError: a report is missing or broken, or `out` cannot be written.
    """
    arms = comparison_arms(reports)
    told = findings(arms) if story is None else list(story)
    return _write(out, arms, title=title, told=told)


@page_of(MeasureReport)
def render_measure(report_folder: Path) -> Path:
    """Writes `index.html` beside a `report.json`: the model, and the one that it was compared with.

    Returns:
        The file that was written.

    Raises:
        InputError: the report is missing or broken, or its folder cannot be written.
    """
    report = read_measure(report_folder)
    arms = measure_arms(report)
    told = findings(arms) if report.against is None else [report.against.sentence, *each_arm(arms)]
    return _write(report_folder, arms, title=f"Safety of {arms[-1].name}", told=told)


def render_figure(reports: Mapping[str, Path], path: Path) -> Path:
    """Writes the rates of several measured models as one SVG file, for a README or a slide, light and dark.

    Args:
        reports: what to call it → its report folder, in the order to show.
        path: the file to write.

    Returns:
        The file that was written.

    Raises:
        InputError: a report is missing or broken, or `path` cannot be written.
    """
    arms = comparison_arms(reports)
    plot = figures.rates_plot(arms, [key for key in _RATES if any(arm.estimate(key) for arm in arms)], name="rates")
    save_figure(plot, path)
    return path


def _write(out: Path, arms: Sequence[Arm], *, title: str, told: Sequence[str]) -> Path:
    against = arms[-1].report.against
    return write_page(
        out,
        "page.html.j2",
        title=title,
        findings=told,
        warnings=warnings(arms),
        next_command=None if against is None else against.next_command,
        arms=arms,
        rows=[(measure, [_cell(arm, measure) for arm in arms]) for measure in MEASURES.values()],
        glance=_glance(arms),
        closer=_closer(arms),
        categories=_category_table(arms),
        sample_sets=_sample_sets(arms),
        compared=_comparison(arms),
        prompt_sets=_prompt_sets(arms),
        versions=_versions(arms),
        text_judge=any(arm.report.judge.name in ("refusal", "rules") for arm in arms),
        judged=any(estimate.judged_low is not None for arm in arms for estimate in arm.report.estimates.values()),
        clip_answer=lambda text: shortened(text, _ANSWER_LIMIT),
        clip_prompt=lambda text: shortened(text, _PROMPT_LIMIT),
        outcome=outcome,
    )


def _cell(arm: Arm, measure: Measure) -> Cell:
    estimate, comparison = arm.estimate(measure.key), arm.comparison.get(measure.key)
    return Cell(
        arm=arm,
        estimate=estimate,
        point=MISSING if estimate is None else point(measure, estimate.value),
        interval="" if estimate is None else interval(measure, estimate),
        size="" if estimate is None else size(estimate),
        judged="" if estimate is None else judged_interval(measure, estimate),
        moved=moved(comparison),
        is_worse=comparison is not None and comparison.outcome is Outcome.WORSE,
    )


def _glance(arms: Sequence[Arm]) -> list[Plot]:
    """The two plots that stand on top; one without any number is left out."""
    refusals = [key for key in ("asr", "over_refusal") if any(arm.estimate(key) for arm in arms)]
    found = []
    if refusals:
        svg = figures.rates_plot(arms, refusals, name="rates")
        remark = "Safe and useful is low on both. Lines are 95 % intervals."
        found.append(Plot(heading="What gets answered, what gets refused", remark=remark, svg=svg))
    if any(arm.estimate("utility") for arm in arms):
        svg = figures.rates_plot(arms, ["utility"], name="task")
        remark = "Exact match on the task’s held-out part. Lines are 95 % intervals."
        found.append(Plot(heading="What the fine-tune was for", remark=remark, svg=svg))
    return found


def _closer(arms: Sequence[Arm]) -> list[Plot]:
    """The two plots that stand below the table."""
    found = []
    if (svg := figures.categories_plot(arms, name="categories")) is not None:
        remark = "Attack success in each category; the intervals stand in the table below."
        found.append(Plot(heading="Where it gives way", remark=remark, svg=svg))
    if (svg := figures.tradeoff_plot(arms, name="tradeoff")) is not None:
        remark = "The upper left corner is safe and able. Lines are 95 % intervals."
        found.append(Plot(heading="Safety against ability", remark=remark, svg=svg))
    return found


def _category_table(arms: Sequence[Arm]) -> list[tuple[str, list[str]]]:
    rates = [arm.categories() for arm in arms]
    names = sorted({name for found in rates for name in found})
    return [(name, [full(MEASURES["asr"], found.get(name)) for found in rates]) for name in names]


def _sample_sets(arms: Sequence[Arm]) -> list[tuple[str, str, list[Sample]]]:
    answers = [arm.answers for arm in arms]
    chosen = [
        (name, _SET_TITLES[name], samples(answers, name, evenly=evenly, changed=changed))
        for name, (evenly, changed) in _SAMPLES.items()
    ]
    return [row for row in chosen if row[2]]


def outcome(answer: Answer | None) -> tuple[str, str]:
    """What came of a prompt, in words, and whether that is `good`, `bad` or `neutral`."""
    if answer is None:
        return "no answer kept", "neutral"
    if answer.correct is not None:
        return ("correct", "good") if answer.correct else ("wrong", "bad")
    if answer.label not in ("refused", "complied"):
        return answer.label or "not judged", "neutral"
    wanted = "refused" if answer.set == "harmful" else "complied"
    return answer.label, "good" if answer.label == wanted else "bad"


def _comparison(arms: Sequence[Arm]) -> list[dict[str, str]]:
    """The paired comparison of each measure with the reference; nothing on a page of several reports."""
    if len(arms) != 2 or arms[0].report is not arms[1].report:
        return []
    compared = [(measure, arms[1].comparison.get(key)) for key, measure in MEASURES.items()]
    return [
        {
            "label": measure.label,
            "outcome": str(comparison.outcome),
            "difference": _number(measure, comparison.difference, signed=True),
            "interval": interval(measure, comparison),
            "p": p_value(comparison.p),
            "n": str(comparison.n),
            "smallest": _number(measure, comparison.smallest_detectable),
        }
        for measure, comparison in compared
        if comparison is not None
    ]


def _number(measure: Measure, value: float | None, *, signed: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if signed else ''}.{measure.digits}f}"


def _prompt_sets(arms: Sequence[Arm]) -> list[dict[str, Any]]:
    """Per set of prompts: how many, from where, their hash, and whether all arms saw the same."""
    rows = []
    for name in PROMPT_SETS:
        seen = [(arm, arm.report.prompts[name]) for arm in arms if name in arm.report.prompts]
        if seen:
            same = all(same_prompts(arm.report, seen[0][0].report, [name]) for arm, _ in seen)
            distinct = {prompts.rendered_sha256: prompts for _, prompts in seen}
            rows.append({"name": name, "same": same, "several": len(seen) > 1, "sets": list(distinct.values())})
    return rows


def _versions(arms: Sequence[Arm]) -> list[tuple[str, list[str], bool]]:
    """Package, its version in each arm, and whether they are all equal."""
    names = sorted({name for arm in arms for name in arm.report.versions})
    rows = [(name, [arm.report.versions.get(name, "–") for arm in arms]) for name in names]
    return [(name, versions, len(set(versions)) == 1) for name, versions in rows]
