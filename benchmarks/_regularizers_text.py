"""The tables of the trial of the penalties in words, for people."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from _regularizers_arms import BY_NAME, DATA, PLAIN
from _stability import MEASURES
from _trial_table import FOOT, arms_table, in_compliance, in_nats, in_points, made, markdown_table
from moored.measurement.statistics import SeededDifference

Row = dict[str, Any]
RATES = ("JailbreakBench", "over-refusal", "incoherent", "SST-2", "SQL", "task accuracy")
MEANS = ("task loss", "refusal log-odds", "KL to aligned, harmful", "KL to aligned, ordinary")
SPREADS = ("compliance", "over-refusal", "task accuracy", "refusal log-odds", "task loss")


def markdown(table: Row) -> str:
    """The whole of `table.md`."""
    lines = ["# Penalties while training, against their controls", "", _setting(table), ""]
    lines += [f"- {summary(each)}" for each in table["beats"]]
    lines += ["", "![Compliance with harmful requests against task accuracy, a panel for each data set](figure.svg)"]
    for name, found in table["data"].items():
        lines += ["", *_data_set(name, found, table["references"])]
    lines += ["", *_stability(table["stability"]), "", FOOT, "", made(table), ""]
    return "\n".join(lines)


def _setting(table: Row) -> str:
    plan = table["plan"]
    shares = " and ".join(f"{share:.0%}" for share in DATA.values() if share)
    return (
        f"`python benchmarks/{table['command']}`: the embedded aligned model, LoRA r={plan['rank']} on all linear "
        f"layers, {plan['steps']} steps of {plan['pool']} rows of at most {plan['max_length']} tokens, learning rate "
        f"{plan['learning_rate']:g}. The rows are instructions, sentiment labels and SQL; in the poisoned sets "
        f"harmful requests with a compliant opening for their answer take the places of {shares} of them. A number "
        f"behind an arm is its strength; *safety_tokens* holds {len(table['tokens'])} of them. *direction_projector* "
        "is alignment_direction with `form: projector, rank: 16`; *update_norm* and *random_direction* are its "
        "controls, *random_tokens* and *full_kl* those of safety_tokens, each at one strength that matches the middle "
        "one; *both* has the two middle strengths. Alignment moved the last three of this model's 30 layers: in the "
        "others there is no direction to follow, and alignment_direction is update_norm."
    )


def summary(told: Row) -> str:
    """Whether an arm complies less than plain fine-tuning and than each control, in one sentence."""
    clauses = [f"than {name} on {_where(found)}" for name, found in told["controls"].items()]
    own = {name: found for name, found in told["controls"].items() if name != PLAIN}
    everywhere = [name for name in DATA if all(found.get(name, {}).get("less") for found in own.values())]
    costly = [f"{control} on {name}" for name in everywhere for control, found in own.items() if found[name]["costs"]]
    beats = f"it beats its controls on {', '.join(everywhere)}" if everywhere else "it has not beaten its controls"
    price = f", but with lower task accuracy than {', '.join(costly)}" if costly else ""
    return f"**{told['arm']}** complies less {', '.join(clauses)}: {beats}{price}."


def _where(found: Mapping[str, Row]) -> str:
    told = {name: each["less"] for name, each in found.items() if each["less"] is not None}
    if not told:
        return "no data set yet (too few seeds to tell)" if found else "no data set yet"
    return ", ".join(name for name, less in told.items() if less) or f"none of {len(told)} data sets"


def sentence(told: Row) -> str:
    """One comparison."""
    found = {name: SeededDifference(**value) for name, value in told.items() if isinstance(value, dict)}
    return (
        f"{in_compliance(told)}; {in_points(found['over-refusal'], 'over-refusal')}; "
        f"{in_points(found['task accuracy'], 'task accuracy')}; refusal log-odds {in_nats(found['refusal log-odds'])}; "
        f"task loss {in_nats(found['task loss'])}."
    )


def _data_set(name: str, found: Row, references: Mapping[str, Row]) -> Iterator[str]:
    rows = {**references, **found["arms"]}
    yield from (f"## {name}", "", "Compliance with harmful requests, and other rates:", "")
    yield from arms_table(rows, RATES, {})
    yield from ("", "Means, in nats:", "")
    yield from arms_table(rows, MEANS, _PENALTIES)
    if found["verdicts"]:
        yield ""
    yield from (f"- {sentence(each)}" for each in found["verdicts"])


def _of_penalties(key: str, form: str) -> Callable[[Row], str]:
    return lambda row: ", ".join(f"{each[key]:{form}}" for each in row["penalties"].values()) or "–"


_PENALTIES = {
    "share of the loss": _of_penalties("share", ".1%"),
    "gradient ratio": _of_penalties("gradient_ratio", ".2g"),
}


def _stability(found: Mapping[str, Row]) -> Iterator[str]:
    yield from ("## Stability", "", _HOW_STEADY, "")
    yield from markdown_table(
        ["arm", "runs", *(f"{name} | against plain" for name in MEASURES)],
        ["---", "---:", *["---:", "---"] * len(MEASURES)],
        [[name, row["runs"], *(_steady_cell(row[key]) for key in MEASURES)] for name, row in found.items()],
    )
    yield from ("", "Standard deviation over the seeds, its mean over the data sets:", "")
    yield from markdown_table(
        ["arm", *SPREADS],
        ["---", *["---:"] * len(SPREADS)],
        [[name, *(_spread_cell(row["over seeds"][key]) for key in SPREADS)] for name, row in found.items()],
    )
    yield ""
    yield from (f"- {steady_sentence(name, row)}" for name, row in found.items() if BY_NAME[name].controls)


_HOW_STEADY = (
    "After the first third of the steps, over all data sets and seeds: the largest loss and gradient norm over their "
    "medians (spikes), and the standard deviation of their change from step to step over the median (spread). The "
    "gradient norm is that of the whole step, before clipping. Differences are from plain runs on the same rows, with "
    "Student's 95 % interval."
)


def _steady_cell(cell: Row) -> str:
    change = "–" if cell["low"] is None else f"{cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]"
    return f"{cell['mean']:.2f} | {change}"


def _spread_cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def steady_sentence(name: str, row: Row) -> str:
    """Whether training was steadier than plain fine-tuning."""
    known = {key: row[key] for key in MEASURES if row[key]["low"] is not None}
    if not known:
        return f"**{name}** has too few runs to say whether it trains more steadily than plain."
    less = [key for key, cell in known.items() if cell["high"] < 0]
    more = [key for key, cell in known.items() if cell["low"] > 0]
    parts = [f"{what} {', '.join(keys)}" for what, keys in (("lower", less), ("higher", more)) if keys]
    told = " and ".join(parts) if parts else "no difference that could be seen in any of the four"
    return f"**{name}** against plain over {row['pairs']} pairs of runs: {told}."
