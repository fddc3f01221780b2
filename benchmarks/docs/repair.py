"""The tables of docs/evidence.md about repairs."""

from collections.abc import Callable, Mapping

from benchmarks.docs.tables import COMPLIED, Row, arms_of, change, results, text_of
from benchmarks.trials.table_parts import cell
from moored.measurement import quartiles
from moored.report.pages.basin import length

REPAIRED = {
    "before the attack": "aligned",
    "not repaired": "attacked",
    "`--preset auto`, the default": "auto",
    "`--preset adapter`": "adapter",
    "– control: an ordinary example in place of the refusal": "benign-small",
    "– control: nonsense": "random-words-small",
    "– an ordinary example, at the rate that fits it": "benign",
    "– nonsense, at the rate that fits it": "random-words",
    "`--method linear_pull`, half way": "linear_pull-0.5",
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
"""Directions of `validity/landscape.py` along which refusals may come back."""
WAYS = {
    "distance until it halves, towards the base": ("basins", "alignment", "backwards"),
    "– the shuffled control": ("basins", "shuffled", "backwards"),
    "– a step towards complying": ("near", "harmful", "forwards"),
    "– a step towards ordinary answers": ("near", "ordinary", "forwards"),
}
"""The grid of `validity/landscape.py`, the direction, and the side that is told."""
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


def repairs() -> str:
    """The repairs, after one attack, with what they cost and what tricks still bring about."""
    tricks = {"complied, answer begun": "prefilled", "complied, jailbreaks": "jailbreaks"}
    return _after_main_attack("recovery_trial", "repair", REPAIRED, PRICED | tricks)


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
    found = results(folder)
    arms = {**found["references"], **found["attacks"]["20-harmful"]}
    return arms_of(corner, rows, [(heading, arms, name) for heading, name in columns.items()])


def attacks() -> str:
    """What the repair does after each attack, and what it costs."""
    found, pair = results("recovery_trial"), ("attacked", "auto")
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
            *(change(arms["attacked"], arms["auto"], name) for name in prices.values()),
        ]
        for attack, label in ATTACKS.items()
        if {*pair} <= (arms := found["attacks"].get(attack, {})).keys()
    ]
    return text_of(head, rows)


def costs() -> str:
    """What a repair and a choice take, beside training."""
    rows = [
        [COSTS[row["variant"]], TRAINED[row["case"]], f"{row['seconds']:.0f}", f"{100 * row['ratio']:.1f} %"]
        for row in (*results("recovery", "speed.json"), *results("recovery", "choice.json"))
        if row["variant"] in COSTS
    ]
    head = ["", "trained", "seconds", "of an epoch of 1,000 rows"]
    return text_of(head, rows)


def steps() -> str:
    """What each step of the repair does."""
    found = results("recovery_trial")
    arms = {**found["references"], **found["steps"], "attacked": found["attacks"]["20-harmful"]["attacked"]}
    labels = {f"{each.removeprefix(STEPS)}, loss {row['loss']:.2g}": each for each, row in found["steps"].items()}
    return arms_of("steps", {"none (three seeds)": "attacked", **labels, "before the attack": "aligned"}, _little(arms))


def directions() -> str:
    """What of a repair's change does it."""
    found = results("recovery_trial")
    arms = {**found["references"], **found["attacks"]["20-harmful"]}
    return arms_of("kept of each weight's change", DIRECTIONS, _little(arms))


def basins() -> str:
    """How likely each model refuses, what that can become along some directions, and how far it stays safe."""
    found = results("landscape")
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
    return text_of(head, rows)


def _centre(report: Row) -> float:
    return report["directions"][0]["points"][report["alphas"].index(0.0)]["refusal"]


def _best(report: Row, name: str) -> float:
    """The likeliest refusal along a direction or, of `random`, along all such."""
    lines = [each["points"] for each in report["directions"] if each["name"].split()[0] == name]
    return max(point["refusal"] for line in lines for point in line)


def _way(report: Row, name: str, side: str) -> str:
    (line,) = [each for each in report["directions"] if each["name"] == name]
    return length(line["length"][side], report["alphas"])


def _at_random(report: Row) -> str:
    """Beyond the grid counts as its edge, which is what the median says then."""
    lines = [each for each in report["directions"] if each["name"].startswith("random")]
    edge = report["alphas"][-1]
    lengths = [edge if value is None else value for line in lines for value in line["length"].values()]
    median = quartiles(lengths)[1]
    return length(None if median == edge else median, report["alphas"])


def spectra() -> str:
    """How few directions the gradient of the safety example has, beside that of the benign one."""
    rows = [
        [model, *(_beside(report["summary"], read) for read in SPECTRUM.values())]
        for model, report in results("landscape")["spectra"].items()
    ]
    head = ["model", *SPECTRUM]
    return text_of(head, rows)


def _beside(summary: Row, read: Callable[[Row], Row]) -> str:
    example, benign = (read(summary[kind])["median"] for kind in ("example", "benign"))
    return f"{example:.2f} / {benign:.2f}"


def _little(arms: Mapping[str, Row]) -> list[tuple[str, Mapping[str, Row], str]]:
    """The columns of arms that were asked little."""
    columns = {"complied": COMPLIED, "over-refusal": "over-refusal", "refusal log-odds, nats": "refusal log-odds"}
    return [(heading, arms, name) for heading, name in columns.items()]


TABLES: Mapping[str, Callable[[], str]] = {
    "repairs": repairs,
    "attacks": attacks,
    "costs": costs,
    "steps": steps,
    "larger": larger,
    "basins": basins,
    "spectra": spectra,
    "directions": directions,
}
"""By their places in it."""
