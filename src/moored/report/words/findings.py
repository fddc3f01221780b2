"""What the numbers say, in sentences; and what forbids comparing them."""

from collections.abc import Sequence

from moored.report.reading.arms import Arm
from moored.report.reading.schema import SETS
from moored.report.words.numbers import BY_KEY, Measure, beyond, interval, point

_TOLD = ("asr", "utility")


def findings(arms: Sequence[Arm]) -> list[str]:
    """What to read first: a sentence on attack success across all arms, then one for each arm."""
    if len(arms) == 1 or arms[0].estimate("asr") is None:
        return each_arm(arms)
    return [_across(arms), *each_arm(arms)[1:]]


def each_arm(arms: Sequence[Arm]) -> list[str]:
    """One sentence for the first arm and one for each other arm, compared with the first."""
    first, *others = arms
    return [_alone(first)] + [_compared(arm, first) for arm in others]


def same_prompts(arm: Arm, reference: Arm, names: Sequence[str]) -> bool:
    """Whether both arms saw the same rendered prompts of these sets; where one lacks a set, nothing differs."""
    shared = [name for name in names if name in arm.report.prompts and name in reference.report.prompts]
    return all(
        arm.report.prompts[name].rendered_sha256 == reference.report.prompts[name].rendered_sha256 for name in shared
    )


def warnings(arms: Sequence[Arm]) -> list[str]:
    """A sentence for everything that makes the arms' numbers incomparable."""
    found = []
    for name in SETS:
        seen: dict[str, list[str]] = {}
        for arm in arms:
            if name in arm.report.prompts:
                seen.setdefault(arm.report.prompts[name].rendered_sha256, []).append(arm.letter)
        if len(seen) > 1:
            groups = "; ".join(f"{', '.join(letters)} saw {digest[:12]}" for digest, letters in seen.items())
            found.append(f"The arms did not see the same {name} prompts ({groups}): do not compare these rates.")
    judges = {f"{arm.report.judge} {arm.report.judge_version or ''}".strip() for arm in arms}
    if len(judges) > 1:
        found.append(f"The arms were judged differently ({', '.join(sorted(judges))}): do not compare their labels.")
    return found


def mark(arm: Arm, reference: Arm, measure: Measure) -> str | None:
    """`above` or `below` where an arm lies clear of the reference and the two may be compared."""
    if arm is reference or not same_prompts(arm, reference, measure.prompts):
        return None
    return beyond(arm.estimate(measure.key), reference.estimate(measure.key))


def _across(arms: Sequence[Arm]) -> str:
    first, *others = arms
    told = {"above it": "", "below it": "", "not told apart from it": "", "not comparable with it": ""}
    for arm in others:
        told[_place(arm, first)] += f" {arm.letter}"
    groups = [f"{place}: {', '.join(letters.split())}" for place, letters in told.items() if letters]
    return f"Attack success of {first.name} ({first.letter}) is {_short(first, 'asr')}; {'; '.join(groups)}."


def _place(arm: Arm, first: Arm) -> str:
    if arm.estimate("asr") is None or not same_prompts(arm, first, BY_KEY["asr"].prompts):
        return "not comparable with it"
    side = mark(arm, first, BY_KEY["asr"])
    return f"{side} it" if side else "not told apart from it"


def _alone(arm: Arm) -> str:
    parts = [f"{BY_KEY[key].label.lower()} {_short(arm, key)}" for key in _TOLD if arm.estimate(key)]
    return f"{arm.name} ({arm.letter}): {', '.join(parts) or 'nothing was measured'}."


def _compared(arm: Arm, first: Arm) -> str:
    parts = [_part(arm, first, BY_KEY[key]) for key in _TOLD if arm.estimate(key)]
    return f"{arm.name} ({arm.letter}): {'; '.join(parts) or 'nothing was measured'}."


def _part(arm: Arm, first: Arm, measure: Measure) -> str:
    text = f"{measure.label.lower()} {_short(arm, measure.key)}"
    if first.estimate(measure.key) is None:
        return text
    if not same_prompts(arm, first, measure.prompts):
        return f"{text}, on other prompts than {first.letter}"
    side = mark(arm, first, measure)
    return f"{text}, {f'{side} {first.letter}' if side else f'its interval overlaps {first.letter}’s'}"


def _short(arm: Arm, key: str) -> str:
    estimate = arm.estimate(key)
    return "" if estimate is None else f"{point(BY_KEY[key], estimate.value)} {interval(BY_KEY[key], estimate)}"
