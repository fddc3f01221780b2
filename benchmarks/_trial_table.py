"""What the tables of the trials are made of: numbers over seeds, differences between arms, and words for them."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy import stats

from _trial_measure import SAFE_SET
from moored.files import whole_file, write_json
from moored.measurement.statistics import SeededDifference, mean_interval, over_seeds, seeded_difference

Row = dict[str, Any]
Scores = Sequence[float | bool]
FOOT = (
    "95 % intervals: prompts resampled, each with all its seeds; the many comparisons are not corrected for. The "
    "smallest difference named is the one that so many prompts of this spread show four times in five. table.json has "
    "the seeds' own numbers."
)


class Columns(NamedTuple):
    """What a trial measured."""

    harmful: Sequence[str]
    tasks: Sequence[str]
    drift: Mapping[str, str]
    """The headings by the names in the runs' files."""

    @property
    def rates(self) -> list[str]:
        """The headings of those from 0 to 1."""
        return [*self.harmful, "over-refusal", "incoherent", *self.tasks]


def read_runs(folder: Path, name: str, key: str) -> list[Row]:
    """A reference is one file, an arm one file a seed; runs of other settings may lie beside them."""
    files = [folder / f"{name}.json", *sorted(folder.glob(f"{name}-seed*.json"))]
    runs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    return [run for run in runs if run["key"] == key]


def write_both(out: Path, table: Row, text: str) -> None:
    """`table.json` and `table.md`."""
    write_json(out / "table.json", table)
    with whole_file(out / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")


def numbers(runs: Sequence[Row], columns: Columns) -> Row:
    """The rates and means of one arm over its seeds, prompts resampled."""
    found = {name: rate([complied(run, name) for run in runs]) for name in columns.harmful}
    found["over-refusal"] = rate([refused(run) for run in runs])
    broken = ("incoherent", "empty")
    found["incoherent"] = rate(
        [[label in broken for name in columns.harmful for label in run["labels"][name]] for run in runs]
    )
    found |= {task: rate([run["correct"][task] for run in runs]) for task in columns.tasks}
    return found | {heading: mean([run["drift"][name] for run in runs]) for name, heading in columns.drift.items()}


def rate(runs: Sequence[Sequence[bool]]) -> Row:
    """Of prompts in one order, a sequence for each seed."""
    return over_seeds(runs).as_dict()


def mean(runs: Sequence[Sequence[float]]) -> Row:
    """The same of scores."""
    by_prompt = [sum(values) / len(runs) for values in zip(*runs, strict=True)]
    return {**mean_interval(by_prompt).as_dict(), "seeds": [average(run) for run in runs]}


def average(values: Sequence[float]) -> float:
    """The plain mean."""
    return sum(values) / len(values)


def complied(run: Row, name: str) -> list[bool]:
    """Prompt by prompt."""
    return [label == "complied" for label in run["labels"][name]]


def refused(run: Row) -> list[bool]:
    """The prompts that only sound harmful."""
    return [label == "refused" for label in run["labels"][SAFE_SET]]


def compare(
    runs: Mapping[str, Sequence[Row]], control: str, arm: str, scores: Mapping[str, Callable[[Row], Scores]]
) -> Row | None:
    """An arm against another one on the seeds of both: the difference in each of `scores`; None without such seeds."""
    common = sorted({run["seed"] for run in runs[arm]} & {run["seed"] for run in runs[control]})
    if not common:
        return None
    before, after = ([run for run in runs[name] if run["seed"] in common] for name in (control, arm))
    differences = {
        name: seeded_difference([of(run) for run in before], [of(run) for run in after]).as_dict()
        for name, of in scores.items()
    }
    return {"arm": arm, "control": control, "seeds": common, **differences}


def verdict(compliance: SeededDifference) -> str:
    """Which way compliance differs, beyond prompts and seeds, or what these prompts could have shown."""
    # Where no prompt's answers differ, their spread says nothing of what could have been seen.
    smallest = compliance.smallest_detectable
    could = f" (the smallest would be {points(smallest)} points)" if smallest else ""
    unseen = f"no difference that {compliance.n} prompts could show{could}"
    what = "complies less" if compliance.high < 0 else "complies more" if compliance.low > 0 else unseen
    if what != unseen and not _beyond_seeds(compliance.seeds):
        alone = len(compliance.seeds) == 1
        what += " under this seed alone" if alone else " under these seeds, but by no more than seeds differ"
    return what


def in_compliance(told: Row) -> str:
    """The verdict on an arm against its control, the difference in compliance, also seed by seed, and what would show.

    Args:
        told: what `compare` returned, of scores that hold `compliance`.
    """
    compliance = SeededDifference(**told["compliance"])
    what, seeds = verdict(compliance), ", ".join(points(each) for each in compliance.seeds)
    # Where nothing was found the verdict itself names it.
    could = f" (the smallest that would show: {points(compliance.smallest_detectable)} points)"
    return (
        f"**{told['arm']} against {told['control']}**: {what}: {in_points(compliance, 'compliance')}, by seed {seeds}"
        f"{could if what.startswith('complies') else ''}"
    )


def is_less(compliance: SeededDifference) -> bool:
    """Whether an arm complies less than its control, beyond prompts and seeds."""
    return compliance.high < 0 and _beyond_seeds(compliance.seeds)


def _beyond_seeds(differences: Sequence[float]) -> bool:
    """Whether Student's 95 % interval of the mean over the seeds leaves out 0: prompts say nothing of another seed."""
    low, high = student(differences)
    return low > 0 or high < 0


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of a mean; endless for a single value."""
    n = len(values)
    if n < 2:
        return -float("inf"), float("inf")
    middle = average(values)
    half = float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5
    return middle - half, middle + half


def points(difference: float | None) -> str:
    """A difference of rates in words."""
    return "no" if difference is None else f"{100 * difference:+.1f}"


def in_points(found: SeededDifference, of: str) -> str:
    """A difference of rates with its interval."""
    return f"{points(found.difference)} points of {of} [{points(found.low)}, {points(found.high)}]"


def in_nats(found: SeededDifference) -> str:
    """A difference of means with its interval."""
    return f"{found.difference:+.2f} nats [{found.low:+.2f}, {found.high:+.2f}]"


def rate_cell(cell: Row) -> str:
    """A rate with its interval."""
    return f"{cell['rate']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def mean_cell(cell: Row) -> str:
    """A mean with its interval."""
    return f"{cell['mean']:.2f} [{cell['low']:.2f}, {cell['high']:.2f}]"


def markdown_table(head: Sequence[str], align: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Its lines; `align` holds `---` or `---:` for each column."""
    return [f"| {' | '.join(head)} |", f"|{'|'.join(align)}|", *(f"| {' | '.join(map(str, row))} |" for row in rows)]
