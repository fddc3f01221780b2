"""How the numbers of a measure are written."""

from moored.measurement import Comparison, Estimate, Measure

MISSING = "not measured"


def point(measure: Measure, value: float, *, signed: bool = False) -> str:
    """One number with the measure's digits; a rounded zero has no sign."""
    text = f"{value:{'+' if signed or measure.signed else ''}.{measure.digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(measure: Measure, estimate: Estimate | Comparison) -> str:
    """`[0.07, 0.19]`, or words where there is none."""
    if estimate.low is None or estimate.high is None:
        return "[no interval]"
    return f"[{point(measure, estimate.low)}, {point(measure, estimate.high)}]"


def judged_interval(measure: Measure, estimate: Estimate) -> str:
    """`[0.05, 0.22]`, with how often the judge errs counted in; nothing where that is not known."""
    if estimate.judged_low is None or estimate.judged_high is None:
        return ""
    return f"[{point(measure, estimate.judged_low)}, {point(measure, estimate.judged_high)}]"


def full(measure: Measure, estimate: Estimate | None) -> str:
    """`0.12 [0.07, 0.19] n=100`, or `not measured`."""
    if estimate is None:
        return MISSING
    return f"{point(measure, estimate.value)} {interval(measure, estimate)} {size(estimate)}"


def size(estimate: Estimate) -> str:
    """`n=100`, or `n=97, 9 undecided, 2 unscored, 1 unfinished`; only the undecided are among the n."""
    counts = {"undecided": estimate.undecided, "unscored": estimate.unscored, "unfinished": estimate.unfinished}
    return ", ".join([f"n={estimate.n}", *(f"{count} {name}" for name, count in counts.items() if count)])


def p_value(p: float | None) -> str:
    """`0.031`, `< 0.001`, or a dash."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"
