"""Made-up reports of `moored inspect gradients`."""

import json
from pathlib import Path
from typing import Any

from moored.files import write_jsonl

GROUPS = ("all", "high", "moderate", "low")


def mean(value: float | None, n: int = 40) -> dict[str, Any]:
    if value is None:
        return {"mean": None, "low": None, "high": None, "n": 0}
    return {"mean": value, "low": value - 0.01, "high": value + 0.01, "n": n}


def correlation(rho: float | None, half: float = 0.1, n: int = 40) -> dict[str, Any]:
    if rho is None:
        return {"rho": None, "low": None, "high": None, "p_value": None, "n": n}
    return {"rho": rho, "low": rho - half, "high": rho + half, "p_value": 0.012, "n": n}


def aligned(cosine: float | None = 0.02, rho: float | None = 0.5) -> dict[str, Any]:
    between = {"low": -0.005, "high": 0.005}
    return {
        "cosine": {group: mean(None if cosine is None else cosine + 0.01 * at) for at, group in enumerate(GROUPS)},
        "norm_cosine": correlation(rho),
        "control": {"cosine": dict.fromkeys(GROUPS, between), "rho": {"low": -0.3, "high": 0.3}},
    }


def reversion(**changes: Any) -> dict[str, Any]:
    matrices = [
        {"name": f"model.layers.{layer}.mlp.up_proj.weight", "layer": layer, "kind": "up", "coordinates": 1000,
         "norm": 3.5, "share": 0.25, **aligned()}
        for layer in (0, 4, 9)
    ]  # fmt: skip
    return {
        "base": "embedded:base", "top": 1000, "identical": {"matrices": 7, "layers": [1, 2]}, "missing": [],
        "compared": [0, 4, 9], "draws": 200, "together": aligned(), "matrices": matrices, **changes,
    }  # fmt: skip


def report(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": "inspect gradients",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "moored inspect gradients embedded:aligned --data rows.jsonl --out out",
        "versions": {"moored": "0.1.0"},
        "seconds": 61.5,
        "seed": 0,
        "model": {"name": "embedded:aligned", "path": "folder", "adapter": None, "weights_sha256": "ab" * 32},
        "parameters": {"which": "all", "new_lora": False, "tensors": 12, "numbers": 123456},
        "data": {"source": "rows.jsonl", "rows": 100, "sampled": 40, "without_answer": 0, "cut": 0, "max_length": 512,
                 "tokens_sha256": "cd" * 32},
        "keep": 0.2,
        "scores": {key: {"min": 1.0, "q1": 2.0, "median": 3.0, "q3": 4.0, "max": 5.0} for key in
                   ("norm", "loss", "length")},
        "correlations": {"length": correlation(-0.8), "loss": correlation(0.05)},
        "shares": {
            "layer": [{"name": name, **mean(share)} for name, share in (("outside", 0.4), ("0", 0.25), ("1", 0.35))],
            "kind": [{"name": name, **mean(share)} for name, share in (("embeddings, head", 0.6), ("up", 0.4))],
            "factor": [],
        },
        "reversion": reversion(),
        "samples": "samples.jsonl",
        **changes,
    }  # fmt: skip


def samples(count: int = 40) -> list[dict[str, Any]]:
    groups = {0: ["high"], 1: ["moderate"], 2: ["low"]}
    return [
        {"row": at + 1, "loss": 0.5 + at / 20, "norm": 40 / (1 + at), "length": 3 + 5 * at, "cosine": 0.01,
         "groups": groups.get(at % 5, [])}
        for at in range(count)
    ]  # fmt: skip


def write(folder: Path, rows: Any = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report(**changes)), encoding="utf-8")
    write_jsonl(folder / "samples.jsonl", samples() if rows is None else rows)
    return folder
