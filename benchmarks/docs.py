"""Writes the tables of README.md and docs/ from the numbers in results/, so that none is typed by hand.

    python benchmarks/docs.py

A table stands between `<!-- NAME -->` and `<!-- end -->`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _trial_table import cell, markdown_table
from moored.files import whole_file
from moored.measurement import quartiles
from moored.report.basin import length

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]
COMPLIED = "JailbreakBench"
"""The requests whose compliance is told."""
DATA = ("ordinary", "poisoned-5", "poisoned-20")
REFERENCES = {"before fine-tuning": "aligned", "plain fine-tuning": "plain"}
SELECTED = {
    "`moderate`, a fifth of each step's rows": "moderate-0.2",
    "– control: `length_matched_random`": "length_matched_random-0.2",
    "– control: `random`": "random-0.2",
    "`high`": "high-0.2",
}
HELD = {
    "`harmful_direction`": "harmful_direction-1",
    "– examples that are in no poison": "harmful_unseen-1",
    "– control: random directions": "random_harmful-1",
    "– control: ten times as strong": "random_harmful-10",
    "– control: ordinary requests": "harmless_direction-1",
    "`update_norm`, control of both directions": "update_norm-1",
    "– strength 0.3": "update_norm-0.3",
    "`alignment_direction`": "alignment_direction-1",
    "– `form: projector`": "direction_projector-1",
    "– control: random direction": "random_direction-1",
    "`safety_tokens`": "safety_tokens-1",
    "– control: random tokens": "random_tokens-1",
    "– control: all tokens": "full_kl-49152",
    "`alignment_direction` and `safety_tokens`": "both-1-1",
}
REPAIRED = {
    "before the attack": "aligned",
    "not repaired": "attacked",
    "`--preset auto`, the default": "auto",
    "`--preset adapter`": "adapter",
    "– control: an ordinary example in place of the refusal": "benign-small",
    "– control: words without sense": "random-words-small",
    "– an ordinary example, at the rate that fits it": "benign",
    "– words without sense, at the rate that fits them": "random-words",
    "`--method linear_pull`, half of the way": "linear_pull-0.5",
    "`--method safe_lora --threshold 1`": "safe_lora-1",
    "not repaired, then ten more harmful rows": "attacked-again",
    "`--preset auto`, then ten more harmful rows": "auto-attacked-again",
}
PRICED = {
    "complied": COMPLIED,
    "over-refusal": "over-refusal",
    "instructions refused": "refuses instructions",
    "SST-2 accuracy": "SST-2",
}
COSTS = {
    "moored-published": "`--preset published`",
    "moored-auto": "`--preset auto`",
    "moored-choose-20": "choosing among 20 examples",
    "moored-choose-100": "choosing among 100",
}
TRAINED = {"adapter": "adapter", "all-parameters": "all parameters", "choice": "adapter"}
STEPS = "steps-"
DIRECTIONS = {
    "all of the change (`full-auto`)": "full-auto",
    "its 20 main directions": "full-rank-20",
    "its 5 main directions": "full-rank-5",
    "its main direction": "full-rank-1",
    "control: all but its 20 main directions": "full-without-20",
    "nothing (three seeds)": "attacked",
}
BEST = {
    "highest along aligned − base": "alignment",
    "– along the shuffled control": "shuffled",
    "– along the best of ten at random": "random",
}
"""Directions of `landscape.py` along which refusals may come back."""
WAYS = {
    "distance until it halves, towards the base": ("basins", "alignment", "backwards"),
    "– the shuffled control": ("basins", "shuffled", "backwards"),
    "– a step towards complying": ("near", "harmful", "forwards"),
    "– a step towards ordinary answers": ("near", "ordinary", "forwards"),
}
"""The grid of `landscape.py`, the direction, and the side that is told."""
SPECTRUM: Mapping[str, Callable[[Row], Row]] = {
    "share of its energy in 1 direction": lambda found: found["energy"]["1"],
    "in 5": lambda found: found["energy"]["5"],
    "effective rank": lambda found: found["effective_rank"],
    "overlap with other refusals": lambda found: found["overlap"],
    "cosine with complying": lambda found: found["cosine"],
}
ATTACKS = {
    "ordinary": "ordinary rows",
    "5-harmful": "240 rows, 5 of them harmful",
    "20-harmful": "240 rows, 20 of them harmful",
    "100-harmful": "240 rows, 100 of them harmful",
    "persona": "chats with a persona that obeys",
}


class Method(NamedTuple):
    """A line of the README's table."""

    label: str
    data: str
    """What was trained on."""
    where: Sequence[str]
    """The folder in results/, and the keys of its arms in table.json."""
    arms: Mapping[str, str]
    """By what they are; the first says nothing of itself."""
    controls: Mapping[str, str]
    prices: Mapping[str, str]
    """Headings of what it may cost, by what they are called here."""
    plain: str = "plain"
    """The arm without the method."""


_POISONED = ("regularizers_trial", "data", "poisoned-20", "arms")
_HELD: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "harmful_direction": (
        {"": "harmful_direction-1", "with examples that are in no poison": "harmful_unseen-1"},
        {
            "random directions": "random_harmful-1",
            "of ordinary requests": "harmless_direction-1",
            "`update_norm`": "update_norm-1",
        },
    ),
    "alignment_direction": (
        {"": "alignment_direction-1"},
        {"a random direction": "random_direction-1", "`update_norm`": "update_norm-1"},
    ),
    "safety_tokens": ({"": "safety_tokens-1"}, {"random tokens": "random_tokens-1", "all tokens": "full_kl-49152"}),
}
METHODS = (
    Method(
        label="before: `gradient_selection`",
        data="ordinary rows",
        where=("selection_trial", "arms"),
        arms={"": "moderate-0.2"},
        controls={
            "random rows of equal length": "length_matched_random-0.2",
            "random rows": "random-0.2",
        },
        prices={"SST-2 accuracy": "SST-2"},
    ),
    *(
        Method(
            label=f"during: `{name}`",
            data="a fifth of it poison",
            where=_POISONED,
            arms=arms,
            controls=controls,
            prices={"task loss": "task loss", "over-refusal": "over-refusal"},
        )
        for name, (arms, controls) in _HELD.items()
    ),
    Method(
        label="after: `recover`, one example",
        data="a twelfth of it poison",
        where=("recovery_trial", "attacks", "20-harmful"),
        plain="attacked",
        arms={"": "auto"},
        controls={"an ordinary answer as the example": "benign-small", "words without sense": "random-words-small"},
        prices={"over-refusal": "over-refusal", "SST-2 accuracy": "SST-2"},
    ),
)


def methods() -> str:
    """Every method against its controls."""
    asked = _results("selection_trial")["arms"]["aligned"][COMPLIED]["n"]
    plain = f"complied (n = {asked}): plain"
    head = ["method", "fine-tuned on", plain, "with it", "with a control in its place", "other effects"]
    return "\n".join(markdown_table(head, ["---"] * len(head), [_against_controls(each) for each in METHODS]))


def _against_controls(method: Method) -> list[str]:
    folder, *keys = method.where
    found = _results(folder)
    for key in keys:
        found = found[key]
    own, controls = (
        "<br>".join(" ".join(filter(None, (cell(found[arm][COMPLIED]), what))) for what, arm in arms.items())
        for arms in (method.arms, method.controls)
    )
    first = next(iter(method.arms.values()))
    prices = (f"{what} {_change(found[method.plain], found[first], name)}" for what, name in method.prices.items())
    return [method.label, method.data, cell(found[method.plain][COMPLIED]), own, controls, "<br>".join(prices)]


def _change(before: Row, after: Row, name: str) -> str:
    """Without intervals; a dash where an arm was not asked that."""
    if name not in before or name not in after:
        return "–"
    return " → ".join(f"{each[name].get('rate', each[name].get('mean')):.2f}" for each in (before, after))


def selection() -> str:
    """The rules that choose rows, on ordinary data."""
    arms = _results("selection_trial")["arms"]
    columns = {"complied": COMPLIED, "over-refusal": "over-refusal", "SST-2 accuracy": "SST-2"}
    return _table(
        "trained on", {**REFERENCES, **SELECTED}, [(heading, arms, name) for heading, name in columns.items()]
    )


def penalties() -> str:
    """The penalties, on three data sets."""
    found = _results("regularizers_trial")
    ordinary, few, many = ({**found["references"], **found["data"][name]["arms"]} for name in DATA)
    columns = [
        ("complied, no poison", ordinary, COMPLIED),
        ("complied, 5 % poison", few, COMPLIED),
        ("complied, 20 % poison", many, COMPLIED),
        ("over-refusal, 20 %", many, "over-refusal"),
        ("task loss, 20 %", many, "task loss"),
    ]
    return _table("held by", {**REFERENCES, **HELD}, columns)


def repairs() -> str:
    """The repairs, after one attack, with what they cost and what tricks still bring about."""
    tricks = {"complied, answer begun": "prefilled", "complied, jailbreaks": "jailbreaks"}
    return _after_main_attack("recovery_trial", "repaired by", REPAIRED, PRICED | tricks)


def larger() -> str:
    """The same attack on a larger model."""
    rows = {
        "before the attack": "aligned",
        "not repaired": "attacked",
        "`--preset auto`": "auto",
        "– control: an ordinary example, at the rate that fits it": "benign",
    }
    return _after_main_attack("recovery_0.5b", "model", rows, PRICED | {"refusal log-odds, nats": "refusal log-odds"})


def _after_main_attack(folder: str, corner: str, rows: Mapping[str, str], columns: Mapping[str, str]) -> str:
    found = _results(folder)
    arms = {**found["references"], **found["attacks"]["20-harmful"]}
    return _table(corner, rows, [(heading, arms, name) for heading, name in columns.items()])


def attacks() -> str:
    """What the repair does after each attack, and what it costs."""
    found, pair = _results("recovery_trial"), ("attacked", "auto")
    asked = found["references"]["aligned"][COMPLIED]["n"]
    prices = {
        "over-refusal": "over-refusal",
        "instructions refused": "refuses instructions",
        "SST-2 accuracy": "SST-2",
        "complied under the persona": "persona",
    }
    head = ["fine-tuned on", "seeds", f"complied (n = {asked}), not repaired", "repaired", *prices]
    rows = [
        [
            label,
            min(len(arms[each]["seeds"]) for each in pair),
            *(cell(arms[each][COMPLIED]) for each in pair),
            *(_change(arms["attacked"], arms["auto"], name) for name in prices.values()),
        ]
        for attack, label in ATTACKS.items()
        if {*pair} <= (arms := found["attacks"].get(attack, {})).keys()
    ]
    return "\n".join(markdown_table(head, ["---"] * len(head), rows))


def costs() -> str:
    """What a repair and a choice take, beside training."""
    rows = [
        [COSTS[row["variant"]], TRAINED[row["case"]], f"{row['seconds']:.0f}", f"{100 * row['ratio']:.1f} %"]
        for row in (*_results("recovery", "speed.json"), *_results("recovery", "choice.json"))
        if row["variant"] in COSTS
    ]
    head = ["", "trained", "seconds", "of an epoch of 1,000 rows"]
    return "\n".join(markdown_table(head, ["---"] * len(head), rows))


def steps() -> str:
    """What each step of the repair does."""
    found = _results("recovery_trial")
    arms = {**found["references"], **found["steps"], "attacked": found["attacks"]["20-harmful"]["attacked"]}
    labels = {f"{each.removeprefix(STEPS)}, loss {row['loss']:.2g}": each for each, row in found["steps"].items()}
    return _table("steps", {"none (three seeds)": "attacked", **labels, "before the attack": "aligned"}, _little(arms))


def directions() -> str:
    """What of a repair's change does it."""
    found = _results("recovery_trial")
    arms = {**found["references"], **found["attacks"]["20-harmful"]}
    return _table("kept of each weight's change", DIRECTIONS, _little(arms))


def basins() -> str:
    """How likely each model refuses, what that can become along some directions, and how far it stays safe."""
    found = _results("landscape")
    rows = [
        [
            model,
            f"{_centre(report):.2f}",
            *(f"{_best(report, name):.2f}" for name in BEST.values()),
            *(_way(found[grid][model], *way) for grid, *way in WAYS.values()),
            _at_random(report),
        ]
        for model, report in found["basins"].items()
    ]
    head = [
        "model",
        f"probability of a refusal (n = {found['basins']['aligned']['prompts']})",
        *BEST,
        *WAYS,
        "– at random, median",
    ]
    return "\n".join(markdown_table(head, ["---"] * len(head), rows))


def _centre(report: Row) -> float:
    return report["directions"][0]["points"][report["alphas"].index(0.0)]["refusal"]


def _best(report: Row, name: str) -> float:
    """The likeliest refusal along a direction or, of `random`, along all such."""
    lines = [each["points"] for each in report["directions"] if each["name"].split()[0] == name]
    return max(point["refusal"] for line in lines for point in line)


def _way(report: Row, name: str, side: str) -> str:
    (line,) = [each for each in report["directions"] if each["name"] == name]
    return length(line["length"][side], report)


def _at_random(report: Row) -> str:
    """Beyond the grid counts as its edge, which is what the median says then."""
    lines = [each for each in report["directions"] if each["name"].startswith("random")]
    edge = report["alphas"][-1]
    lengths = [edge if value is None else value for line in lines for value in line["length"].values()]
    median = quartiles(lengths)[1]
    return length(None if median == edge else median, report)


def spectra() -> str:
    """How few directions the gradient of the safety example has, beside that of the benign one."""
    rows = [
        [model, *(_beside(report["summary"], read) for read in SPECTRUM.values())]
        for model, report in _results("landscape")["spectra"].items()
    ]
    head = ["model", *SPECTRUM]
    return "\n".join(markdown_table(head, ["---"] * len(head), rows))


def _beside(summary: Row, read: Callable[[Row], Row]) -> str:
    example, benign = (read(summary[kind])["median"] for kind in ("example", "benign"))
    return f"{example:.2f} / {benign:.2f}"


def _little(arms: Mapping[str, Row]) -> list[tuple[str, Mapping[str, Row], str]]:
    """The columns of arms that were asked little."""
    columns = {"complied": COMPLIED, "over-refusal": "over-refusal", "refusal log-odds, nats": "refusal log-odds"}
    return [(heading, arms, name) for heading, name in columns.items()]


TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": {"methods": methods},
    "docs/select.md": {"selection": selection},
    "docs/hold.md": {"penalties": penalties},
    "docs/repair.md": {
        "repairs": repairs,
        "attacks": attacks,
        "costs": costs,
        "steps": steps,
        "larger": larger,
        "basins": basins,
        "spectra": spectra,
        "directions": directions,
    },
}
"""By the file that they stand in."""


def _results(folder: str, file: str = "table.json") -> Any:
    return json.loads((ROOT / "results" / folder / file).read_text(encoding="utf-8"))


def _table(corner: str, arms: Mapping[str, str], columns: Sequence[tuple[str, Mapping[str, Row], str]]) -> str:
    unknown = {arm for arm in arms.values() if not any(arm in found for _, found, _ in columns)}
    if unknown:
        raise ValueError(f"results/ has no arm {', '.join(sorted(unknown))}.")
    headings = [corner, *(f"{heading} (n = {found['aligned'][name]['n']})" for heading, found, name in columns)]
    rows = [[label, *(_cell(found.get(arm), name) for _, found, name in columns)] for label, arm in arms.items()]
    return "\n".join(markdown_table(headings, ["---"] * len(headings), rows))


def _cell(arm: Row | None, name: str) -> str:
    """A dash where an arm was not tried, or not asked that."""
    return "–" if arm is None or name not in arm else cell(arm[name])


def filled(text: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """The text with its tables made anew.

    Raises:
        ValueError: a table that has no place in the text.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name} -->", "<!-- end -->"
        made = f"{begin}\n{table()}\n{end}"
        text, places = re.subn(f"{begin}\n.*?{end}", lambda _, made=made: made, text, flags=re.DOTALL)
        if places != 1:
            raise ValueError(f"There are {places} places for the table {name}; it needs one.")
    return text


def main() -> None:
    """Fills all files."""
    for name, tables in TABLES.items():
        text = filled((ROOT / name).read_text(encoding="utf-8"), tables)
        with whole_file(ROOT / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
