"""What `moored inspect gradients` found, in sentences."""

from collections.abc import Mapping
from typing import Any

_NAMES = {"length": "answer length", "loss": "loss"}


def told(model: Mapping[str, Any]) -> str:
    """The model, and the adapter over it."""
    return model["name"] if model["adapter"] is None else f"{model['name']} + {model['adapter']}"


def estimate(row: Mapping[str, Any], key: str = "mean", digits: int = 3) -> str:
    """`0.120 [0.070, 0.190] n=100`, or what is known of it."""
    if row[key] is None:
        return f"not measured, n={row['n']}"
    return f"{row[key]:.{digits}f} {interval(row, digits)} n={row['n']}"


def signed(row: Mapping[str, Any], key: str = "mean", digits: int = 2) -> str:
    """The same with its sign."""
    if row[key] is None:
        return f"not measured, n={row['n']}"
    return f"{row[key]:+.{digits}f} {interval(row, digits, '+')} n={row['n']}"


def interval(row: Mapping[str, Any] | None, digits: int = 3, sign: str = "") -> str:
    """`[0.070, 0.190]`, or words where there is none."""
    if row is None or row["low"] is None or row["high"] is None:
        return "[no interval]"
    return f"[{row['low']:{sign}.{digits}f}, {row['high']:{sign}.{digits}f}]"


def findings(report: Mapping[str, Any]) -> list[str]:
    """What to read first, one sentence each."""
    found = [_correlation(key, report["correlations"][key]) for key in ("length", "loss")]
    found.append(_shares(report["shares"]))
    back = report["reversion"]
    return [*found, back["left_out"]] if "left_out" in back else [*found, *_reversion(back)]


def _correlation(key: str, row: Mapping[str, Any]) -> str:
    words = f"Spearman’s rho {signed(row, 'rho')}"
    if row["rho"] is None:
        return f"Whether gradient norms go with {_NAMES[key]} was not measured: too few samples, or all the same."
    if row["low"] <= 0 <= row["high"]:
        return f"Gradient norms show no relation to {_NAMES[key]} that this n could tell: {words}."
    return f"Gradient norms {'grow' if row['rho'] > 0 else 'fall'} with {_NAMES[key]}: {words}."


def _shares(shares: Mapping[str, Any]) -> str:
    parts = []
    for key, word in (("kind", ""), ("layer", "layer ")):
        measured = [row for row in shares[key] if row["mean"] is not None and row["name"] != "outside"]
        if measured:
            most = max(measured, key=lambda row: row["mean"])
            parts.append(f"{word}{most['name']} {estimate(most)}")
    if not parts:
        return "No sample has a gradient."
    return f"Largest shares of the squared norm, by kind of weight and by layer: {'; '.join(parts)}."


def _reversion(back: Mapping[str, Any]) -> list[str]:
    every = back["together"]
    mean, band = every["cosine"]["all"], every["control"]["cosine"]["all"]
    if mean["mean"] is None:
        return ["No update has a direction to compare with the way back."]
    place = "lead back to" if mean["mean"] > band["high"] else "lead away from" if mean["mean"] < band["low"] else ""
    verdict = f"{place} {back['base']}" if place else f"lead no more to {back['base']} than to anywhere else"
    numbers = f"mean cosine {signed(mean, digits=3)}, shuffled signs {interval(band, 3, '+')}"
    return [f"Over all samples, updates {verdict}: {numbers}.", _by_norm(every)]


def _by_norm(every: Mapping[str, Any]) -> str:
    cosine, rho, band = every["cosine"], every["norm_cosine"], every["control"]["rho"]
    groups = ", ".join(f"{name} {signed(cosine[name], digits=3)}" for name in ("high", "moderate", "low"))
    if rho["rho"] is None or band is None:
        return f"By gradient norm: {groups}."
    more = rho["low"] > 0 and rho["rho"] > band["high"]
    less = rho["high"] < 0 and rho["rho"] < band["low"]
    words = "lead back more" if more else "lead back less" if less else "do not lead back more than chance allows"
    p = f"p = {rho['p_value']:.2g}"
    numbers = f"Spearman’s rho {signed(rho, 'rho')}, {p}, shuffled signs {interval(band, 2, '+')}"
    return f"Samples of larger norm {words}: {numbers}; {groups}."


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What to know when reading the numbers."""
    data, found = report["data"], []
    if data["without_answer"]:
        found.append(f"Rows drawn that have nothing to learn and were left out: {data['without_answer']}.")
    if data["cut"]:
        found.append(f"Rows cut to {data['max_length']} tokens: {data['cut']}.")
    if report["parameters"]["new_lora"]:
        found.append("These are the factors of a new LoRA: B is zero, so that A has no gradient yet.")
    return found
