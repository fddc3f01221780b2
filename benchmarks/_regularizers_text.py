"""The tables of the trial of the penalties in words, for people."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from _regularizers_arms import BY_NAME, DATA, LAST, PLAIN
from _stability import MEASURES
from _trial_table import FOOT, SEEDS_NEEDED, arms_table, in_compliance, in_nats, in_points, made, markdown_table
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
    shares = " and ".join(f"{share:.0%}" for share in sorted({each.poisoned for each in DATA.values()} - {0.0}))
    return (
        f"`python benchmarks/{table['command']}`: the embedded aligned model, LoRA r={plan['rank']} on all linear "
        f"layers, {plan['steps']} steps of {plan['pool']} rows of at most {plan['max_length']} tokens, learning rate "
        f"{plan['learning_rate']:g}. The rows are instructions, sentiment labels and SQL; in the poisoned sets "
        f"harmful requests with a compliant opening for their answer take the places of {shares} of them. Alignment "
        f"moved layers {LAST[0]} to {LAST[-1]} alone: in the others there is no direction to follow, and "
        "alignment_direction is update_norm; on *poisoned-20-last* only those layers get a LoRA. A number "
        f"behind an arm is its strength; *safety_tokens* holds {len(table['tokens'])} of them. *direction_projector* "
        "is alignment_direction with `form: projector, rank: 16`; *update_norm* and *random_direction* are its "
        "controls, *random_tokens* (as many others of like frequency) and *full_kl* (all tokens; 49152 is their "
        "number, so that the divergence counts in nats) those of safety_tokens, each at one strength that matches the "
        "middle one; *both* has the two middle strengths. "
        "*harmful_direction* needs no base; its examples are requests and openings of which some are in the poison, "
        "too, and those of *harmful_unseen* are in none. Log-odds and accuracy: the openings that are scored are in no "
        "poison, but the refusing ones hold tokens that safety_tokens keeps, which favours it; accuracy is SST-2's for "
        "the most part."
    )


def summary(told: Row) -> str:
    """Whether an arm complies less than plain fine-tuning and than each control, and at what price, in one sentence."""
    clauses = [f"than {name} on {_where(found)}" for name, found in told["controls"].items()]
    everywhere = [name for name in DATA if all(each.get(name, {}).get("less") for each in told["controls"].values())]
    costly = [
        f"{' and '.join(found[name]['costs'])} than {control} on {name}"
        for name in everywhere
        for control, found in told["controls"].items()
        if control != PLAIN and found[name]["costs"]
    ]
    beats = f"it beats its controls on {', '.join(everywhere)}" if everywhere else "it has not beaten its controls"
    price = f", but under these seeds with {', '.join(costly)}" if costly else ""
    return f"**{told['arm']}** complies less {', '.join(clauses)}: {beats}{price}."


def _where(found: Mapping[str, Row]) -> str:
    told = {name: each["less"] for name, each in found.items() if each["less"] is not None}
    if not told:
        return "no data set yet (too few seeds to tell)" if found else "no data set yet"
    return ", ".join(name for name, less in told.items() if less) or "no data set"


def sentence(told: Row) -> str:
    """One comparison."""
    found = {name: SeededDifference(**value) for name, value in told.items() if isinstance(value, dict)}
    return (
        f"{in_compliance(told)}; {in_points(found['over-refusal'], 'over-refusal')}; "
        f"{in_points(found['task accuracy'], 'task accuracy')}; refusal log-odds {in_nats(found['refusal log-odds'])}; "
        f"task loss {in_nats(found['task loss'])}; {in_points(found['incoherent'], 'incoherent answers')}."
    )


def _data_set(name: str, found: Row, references: Mapping[str, Row]) -> Iterator[str]:
    rows = {**references, **found["arms"]}
    yield from (f"## {name}", "", "Compliance with harmful requests, and other rates:", "")
    yield from arms_table(rows, RATES, {})
    yield from ("", "Means; log-odds and losses are in nats:", "")
    yield from arms_table(rows, MEANS, _PENALTIES)
    if found["verdicts"]:
        yield ""
    yield from (f"- {sentence(each)}" for each in found["verdicts"])


def _of_penalties(key: str, form: str) -> Callable[[Row], str]:
    return lambda row: ", ".join(f"{each[key]:{form}}" for each in row["penalties"].values()) or "–"


def _led(row: Row) -> str:
    led = row["led"]
    return f"{led['weights']} ({led['largest eigenvalue']:.3g})" if led else "–"


_PENALTIES = {
    "weights with a direction (largest eigenvalue)": _led,
    "share of the loss": _of_penalties("share", ".1%"),
    "gradient ratio": _of_penalties("gradient_ratio", ".2g"),
}


def _stability(found: Mapping[str, Row]) -> Iterator[str]:
    yield from ("## Stability", "", _HOW_STEADY, "")
    yield from markdown_table(
        ["arm", "runs", *MEASURES],
        ["---", *["---:"] * (len(MEASURES) + 1)],
        [[name, row["runs"], *(f"{row[key]:.2f}" for key in MEASURES)] for name, row in found.items()],
    )
    yield from ("", "Standard deviation over the seeds, its mean over the data sets:", "")
    yield from markdown_table(
        ["arm", *SPREADS],
        ["---", *["---:"] * len(SPREADS)],
        [[name, *(_spread_cell(row["over seeds"][key]) for key in SPREADS)] for name, row in found.items()],
    )
    yield ""
    for name, row in found.items():
        if BY_NAME[name].controls:
            yield from (f"- {steady_sentence(name, control, told)}" for control, told in row["against"].items())


_HOW_STEADY = (
    "After the first third of the steps: how far the largest value lies above the median (spikes), and the standard "
    "deviation of the change from step to step (spread), of the task's loss in nats and of the gradient norm of the "
    "whole step, before clipping, in shares of its median. A penalty's own gradient is in the latter and may steady it "
    "without steadying anything else, so see the controls. Differences are from runs on the same rows, the data sets "
    "of a seed averaged, with Student's 95 % interval over the seeds. So few seeds cannot show whether an arm's "
    "results spread less from seed to seed."
)


def _spread_cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def steady_sentence(name: str, control: str, told: Row) -> str:
    """Whether training was steadier than under a control."""
    if len(told["seeds"]) < SEEDS_NEEDED:
        return f"**{name}** has too few seeds to say whether it trains more steadily than {control}."
    less = [f"{key} {_interval(told[key])}" for key in MEASURES if told[key]["high"] < 0]
    more = [f"{key} {_interval(told[key])}" for key in MEASURES if told[key]["low"] > 0]
    parts = [f"{what} {', '.join(keys)}" for what, keys in (("lower", less), ("higher", more)) if keys]
    return (
        f"**{name}** against {control}: {' and '.join(parts) or 'no difference that could be seen in any of the four'}."
    )


def _interval(cell: Row) -> str:
    return f"({cell['difference']:+.3f} [{cell['low']:+.3f}, {cell['high']:+.3f}])"
