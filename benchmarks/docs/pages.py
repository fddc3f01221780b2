"""Writes the tables and captured outputs of README.md and docs/ from results/, so that no number is typed by hand.

    python -m benchmarks.docs.pages

Each stands between `<!-- NAME -->` and `<!-- end -->`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.docs import readme, repair, supported
from benchmarks.docs.tables import COMPLIED, arms_of, change, results, text_of
from benchmarks.origin import ROOT
from benchmarks.trials.table_parts import cell
from moored.files import whole_file

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
    "– examples unrelated to the poison": "harmful_unseen-1",
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


class Method(NamedTuple):
    """A row of the table of all methods."""

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
        {"": "harmful_direction-1", "with examples unrelated to the poison": "harmful_unseen-1"},
        {
            "random directions": "random_harmful-1",
            "directions of ordinary requests": "harmless_direction-1",
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
            data="rows, a fifth of them harmful",
            where=_POISONED,
            arms=arms,
            controls=controls,
            prices={"task loss": "task loss", "over-refusal": "over-refusal"},
        )
        for name, (arms, controls) in _HELD.items()
    ),
    Method(
        label="after: `recover`, one example",
        data="rows, a twelfth of them harmful",
        where=("recovery_trial", "attacks", "20-harmful"),
        plain="attacked",
        arms={"": "auto"},
        controls={"an ordinary answer as the example": "benign-small", "nonsense": "random-words-small"},
        prices={"over-refusal": "over-refusal", "SST-2 accuracy": "SST-2"},
    ),
)


def methods() -> str:
    """Every method against its controls."""
    asked = results("selection_trial")["arms"]["aligned"][COMPLIED]["n"]
    plain = f"complied (n = {asked}): plain"
    head = ["method", "fine-tuned on", plain, "with it", "with a control instead", "other effects"]
    return text_of(head, [_against_controls(each) for each in METHODS])


def _against_controls(method: Method) -> list[str]:
    folder, *keys = method.where
    found = results(folder)
    for key in keys:
        found = found[key]
    own, controls = (
        "<br>".join(" ".join(filter(None, (cell(found[arm][COMPLIED]), what))) for what, arm in arms.items())
        for arms in (method.arms, method.controls)
    )
    first = next(iter(method.arms.values()))
    prices = (f"{what} {change(found[method.plain], found[first], name)}" for what, name in method.prices.items())
    return [method.label, method.data, cell(found[method.plain][COMPLIED]), own, controls, "<br>".join(prices)]


def selection() -> str:
    """The rules that choose rows, on ordinary data."""
    arms = results("selection_trial")["arms"]
    columns = {"complied": COMPLIED, "over-refusal": "over-refusal", "SST-2 accuracy": "SST-2"}
    return arms_of(
        "trained on", {**REFERENCES, **SELECTED}, [(heading, arms, name) for heading, name in columns.items()]
    )


def penalties() -> str:
    """The penalties, on three data sets."""
    found = results("regularizers_trial")
    ordinary, few, many = ({**found["references"], **found["data"][name]["arms"]} for name in DATA)
    columns = [
        ("complied, no poison", ordinary, COMPLIED),
        ("complied, 5 % poison", few, COMPLIED),
        ("complied, 20 % poison", many, COMPLIED),
        ("over-refusal, 20 %", many, "over-refusal"),
        ("task loss, 20 %", many, "task loss"),
    ]
    return arms_of("safeguard", {**REFERENCES, **HELD}, columns)


TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "README.md": readme.TABLES,
    "docs/evidence.md": {"methods": methods, "selection": selection, "penalties": penalties, **repair.TABLES},
    "docs/faq.md": supported.QUESTIONS,
    "docs/supported.md": supported.SUPPORTED,
}
"""By the file that they stand in."""


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
