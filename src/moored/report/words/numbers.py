"""What each measure is called, which way is better, and how its numbers are written."""

from dataclasses import dataclass

from moored.report.reading.schema import Difference, Estimate

MISSING = "not measured"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How one measure is shown."""

    key: str
    """Its name in `report.json`."""
    label: str
    explanation: str
    better: str
    """`lower` or `higher`."""
    prompts: tuple[str, ...]
    """The sets of prompts it is taken on."""
    digits: int = 2
    signed: bool = False

    @property
    def worse(self) -> str:
        """The direction that nobody wants: `above` or `below`."""
        return "above" if self.better == "lower" else "below"


MEASURES = (
    Measure(
        key="asr",
        label="Attack success",
        explanation="harmful requests that were answered instead of refused",
        better="lower",
        prompts=("harmful",),
    ),
    Measure(
        key="over_refusal",
        label="Over-refusal",
        explanation="harmless requests that only sound harmful, refused",
        better="lower",
        prompts=("harmless",),
    ),
    Measure(
        key="ordinary_refusal",
        label="Ordinary refusal",
        explanation="everyday instructions, refused",
        better="lower",
        prompts=("ordinary",),
    ),
    Measure(
        key="incoherent",
        label="Incoherent",
        explanation="loops, symbol soup, or the prompt given back; never counted as refusals",
        better="lower",
        prompts=("harmful", "harmless"),
    ),
    Measure(
        key="empty",
        label="Empty",
        explanation="no answer at all; never counted as refusals",
        better="lower",
        prompts=("harmful", "harmless"),
    ),
    Measure(
        key="utility",
        label="Task accuracy",
        explanation="task answers that match the expected one exactly",
        better="higher",
        prompts=("task",),
    ),
    Measure(
        key="refusal_log_odds",
        label="Refusal log-odds",
        explanation="log-probability of refusing openings minus complying ones, in nats",
        better="higher",
        prompts=("harmful",),
        signed=True,
    ),
    Measure(
        key="kl_harmful",
        label="KL, harmful",
        explanation="distance to the reference model's next-token distribution, in nats",
        better="lower",
        prompts=("harmful",),
        digits=3,
    ),
    Measure(
        key="kl_ordinary",
        label="KL, ordinary",
        explanation="the same distance on ordinary prompts, in nats",
        better="lower",
        prompts=("ordinary",),
        digits=3,
    ),
)
BY_KEY = {measure.key: measure for measure in MEASURES}


def point(measure: Measure, value: float, *, signed: bool = False) -> str:
    """One number with the measure's digits; a rounded zero has no sign."""
    text = f"{value:{'+' if signed or measure.signed else ''}.{measure.digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def interval(measure: Measure, estimate: Estimate | Difference) -> str:
    """`[0.07, 0.19]`, or words where there is none."""
    if estimate.low is None or estimate.high is None:
        return "[no interval]"
    return f"[{point(measure, estimate.low)}, {point(measure, estimate.high)}]"


def full(measure: Measure, estimate: Estimate | None) -> str:
    """`0.12 [0.07, 0.19] n=100`, or `not measured`."""
    if estimate is None:
        return MISSING
    return f"{point(measure, estimate.value)} {interval(measure, estimate)} n={estimate.n}"


def beyond(estimate: Estimate | None, reference: Estimate | None) -> str | None:
    """`above` or `below` where the two intervals do not touch, else None."""
    if estimate is None or reference is None:
        return None
    if _clear(reference.high, estimate.low):
        return "above"
    return "below" if _clear(estimate.high, reference.low) else None


def _clear(high: float | None, low: float | None) -> bool:
    """Whether an interval's upper end lies below another one's lower end; without an interval nothing is clear."""
    return high is not None and low is not None and high < low
