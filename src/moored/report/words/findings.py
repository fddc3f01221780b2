"""What the numbers say, in sentences; and what forbids comparing them."""

from collections.abc import Sequence

from moored.measurement import MEASURES, PROMPT_SETS, Comparison, Measure
from moored.report.reading.answers import unfinished as unfinished_of
from moored.report.reading.arms import Arm
from moored.report.words.number_format import interval, point
from moored.report.words.outcomes import unfinished

_SUMMARIZED = ("asr", "utility")


def findings(arms: Sequence[Arm]) -> list[str]:
    """What to read first: a sentence on attack success across all arms, then one for each arm."""
    if len(arms) == 1 or arms[0].estimate("asr") is None:
        return each_arm(arms)
    return [_across(arms), *each_arm(arms)[1:]]


def each_arm(arms: Sequence[Arm]) -> list[str]:
    """One sentence for the first arm and one for each other arm, compared with the first."""
    return [_alone(arms[0])] + [_compared(arm, arms[0]) for arm in arms[1:]]


def warnings(arms: Sequence[Arm]) -> list[str]:
    """A sentence for everything that makes the arms' numbers incomparable, or leaves answers out of them."""
    reasoning = [unfinished(f"{arm.name} ({arm.letter})", unfinished_of(arm.answers), len(arm.answers)) for arm in arms]
    return [*_other_prompts(arms), *_other_judges(arms), *filter(None, reasoning)]


def _other_prompts(arms: Sequence[Arm]) -> list[str]:
    sentences = []
    for name in PROMPT_SETS:
        seen: dict[str, list[str]] = {}
        for arm in arms:
            if name in arm.report.prompts:
                seen.setdefault(arm.report.prompts[name].rendered_sha256, []).append(arm.letter)
        if len(seen) > 1:
            groups = "; ".join(f"{', '.join(letters)} saw {digest[:12]}" for digest, letters in seen.items())
            sentences.append(f"The arms did not see the same {name} prompts ({groups}): do not compare these rates.")
    return sentences


def _other_judges(arms: Sequence[Arm]) -> list[str]:
    judges = sorted({str(arm.report.judge) for arm in arms})
    if len(judges) == 1:
        return []
    return [f"The arms were judged differently ({', '.join(judges)}): do not compare their labels."]


def moved(comparison: Comparison | None) -> str:
    """`higher` or `lower` where a measure moved beyond chance, else nothing."""
    if comparison is None or not comparison.is_beyond_chance or comparison.difference is None:
        return ""
    return "higher" if comparison.difference > 0 else "lower"


def _across(arms: Sequence[Arm]) -> str:
    first, *others = arms
    groups: dict[str, list[str]] = {"higher": [], "lower": [], "no detectable difference": [], "not comparable": []}
    for arm in others:
        groups[_place(arm.comparison.get("asr"))].append(arm.letter)
    places = "; ".join(f"{place}: {', '.join(letters)}" for place, letters in groups.items() if letters)
    return f"Attack success of {first.name} ({first.letter}) is {_short(first, MEASURES['asr'])}; {places}."


def _place(comparison: Comparison | None) -> str:
    if comparison is None or comparison.difference is None:
        return "not comparable"
    return moved(comparison) or "no detectable difference"


def _alone(arm: Arm) -> str:
    parts = [f"{measure.label.lower()} {_short(arm, measure)}" for measure in _summarized(arm)]
    return f"{arm.name} ({arm.letter}): {', '.join(parts) or 'nothing was measured'}."


def _compared(arm: Arm, first: Arm) -> str:
    parts = [_part(arm, first, measure) for measure in _summarized(arm)]
    return f"{arm.name} ({arm.letter}): {'; '.join(parts) or 'nothing was measured'}."


def _summarized(arm: Arm) -> list[Measure]:
    return [MEASURES[key] for key in _SUMMARIZED if arm.estimate(key)]


def _part(arm: Arm, first: Arm, measure: Measure) -> str:
    text = f"{measure.label.lower()} {_short(arm, measure)}"
    if first.estimate(measure.key) is None:
        return text
    place = _place(arm.comparison.get(measure.key))
    link = {"no detectable difference": "from", "not comparable": "with"}.get(place, "than")
    return f"{text}, {place} {link} {first.letter}"


def _short(arm: Arm, measure: Measure) -> str:
    estimate = arm.estimate(measure.key)
    return "" if estimate is None else f"{point(measure, estimate.value)} {interval(measure, estimate)}"
