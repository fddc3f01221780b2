"""A made-up report of `moored select`."""

from typing import Any

from moored.report.reading.record import record_of
from moored.report.reading.selection import SelectReport


def made_selection(**changes: Any) -> SelectReport:
    """A report with some parts changed; those of `numbers` by their own names."""
    values = selection_values()
    numbers = {key: value for key, value in changes.items() if key in values["numbers"]}
    rest = {key: value for key, value in changes.items() if key not in numbers}
    return record_of(SelectReport, {**values, **rest, "numbers": {**values["numbers"], **numbers}})


def selection_values() -> dict[str, Any]:
    quantiles = {"min": 1.0, "q05": 1.5, "q25": 2.0, "median": 3.0, "q75": 5.0, "q95": 20.0, "max": 160.0}
    kept = {**quantiles, "min": 2.5, "max": 3.5}
    overlap = {"kept": 8, "share": 0.125, "chance": 0.2, "chance_low": 0.0, "chance_high": 0.5}
    return {
        "schema": 2,
        "kind": "select",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "moored select rows.jsonl --model embedded:aligned --out out",
        "versions": {"moored": "0.1.0"},
        "model": {"name": "embedded:aligned", "path": "base", "adapter": None, "weights_sha256": "ab" * 32},
        "data": {"name": "data/rows.jsonl", "sha256": "cd" * 32, "columns": ["prompt", "completion"]},
        "rendering": {"chat_template_sha256": "ef" * 32},
        "settings": {"rule": "moderate", "keep": 0.2, "seed": 0, "parameters": "all", "max_length": 1024},
        "method": "static",
        "finished": True,
        "files": {"scored": "scored.jsonl", "kept": "kept.jsonl", "kept_indices": "kept_indices.json"},
        "seconds": 61.5,
        "numbers": {
            "rows": {"all": 1240, "scored": 1240, "without_supervised_token": 0, "cut_at_max_length": 0, "kept": 248},
            "quantiles": {name: {"all": quantiles, "kept": kept} for name in ("norm", "loss", "tokens")},
            "length_confound": {
                "norm_and_tokens": {"rho": -0.71, "low": -0.75, "high": -0.66, "n": 1240},
                "norm_and_loss": {"rho": 0.3, "low": 0.25, "high": 0.35, "n": 1240},
                "kept_longer_than_left_out": {"probability": 0.6, "low": 0.55, "high": 0.65, "n": [248, 992]},
            },
            "overlap": {"low": overlap, "length_matched_random": {**overlap, "share": 0.375}},
            "histogram": {"edges": [0.99, 3.0, 10.0, 50.0, 161.6], "all": [600, 500, 100, 40], "kept": [200, 48, 0, 0]},
            "points": [[3 + n % 90, 160.0 / (1 + n), n % 5 == 0] for n in range(159)],
        },
        "examples": {
            name: [made_example(index=n, answer=f"{name} answer {n}") for n in range(5)]
            for name in ("lowest", "kept_middle", "highest")
        },
    }


def made_example(**changes: Any) -> dict[str, Any]:
    example = {"index": 7, "loss": 1.5, "norm": 3.25, "tokens": 12, "kept": True}
    return example | {"prompt": "Why?", "prompt_left": 0, "answer": "Because.", "answer_left": 0} | changes
