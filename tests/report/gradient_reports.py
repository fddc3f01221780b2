"""Made-up reports of `moored inspect gradients`."""

from pathlib import Path
from typing import Any

from moored.measurement import Alignment, Correlation, Mean
from moored.report.reading.gradients import (
    BaseDirectionRecord,
    ComparedMatrix,
    CorrelationsRecord,
    DataRecord,
    FiveNumbers,
    GradientsReport,
    IdenticalRecord,
    ParametersRecord,
    SampleRecord,
    ScoresRecord,
    ShareRecord,
    SharesRecord,
)
from moored.report.reading.record import ModelRecord

GROUPS = ("all", "high", "moderate", "low")


def mean(value: float | None, n: int = 40) -> Mean:
    if value is None:
        return Mean(mean=None, low=None, high=None, n=0)
    return Mean(mean=value, low=value - 0.01, high=value + 0.01, n=n)


def correlation(rho: float | None, half: float = 0.1, n: int = 40) -> Correlation:
    if rho is None:
        return Correlation(rho=None, low=None, high=None, p_value=None, n=n)
    return Correlation(rho=rho, low=rho - half, high=rho + half, p_value=0.012, n=n)


def correlations(length: float | None, loss: float | None) -> CorrelationsRecord:
    return CorrelationsRecord(length=correlation(length), loss=correlation(loss))


def aligned(cosine: float | None = 0.02, rho: float | None = 0.5, **changes: Any) -> Alignment:
    given: dict[str, Any] = {
        "groups": {group: mean(None if cosine is None else cosine + 0.01 * at) for at, group in enumerate(GROUPS)},
        "norm_cosine": correlation(rho),
        "control_means": dict.fromkeys(GROUPS, (-0.005, 0.005)),
        "control_rho": (-0.3, 0.3),
    }
    return Alignment(**{**given, **changes})


def base_direction(**changes: Any) -> BaseDirectionRecord:
    matrices = [
        ComparedMatrix(
            name=f"model.layers.{layer}.mlp.up_proj.weight",
            layer=layer,
            kind="up",
            coordinates=1000,
            norm=3.5,
            share=0.25,
            cosines=aligned(),
        )
        for layer in (0, 4, 9)
    ]
    given: dict[str, Any] = {
        "base": "embedded:base",
        "top": 1000,
        "identical": IdenticalRecord(matrices=7, layers=[1, 2]),
        "missing": [],
        "layers": [0, 4, 9],
        "draws": 200,
        "together": aligned(),
        "matrices": matrices,
    }
    return BaseDirectionRecord(**{**given, **changes})


def data(**changes: Any) -> DataRecord:
    given: dict[str, Any] = {
        "source": "rows.jsonl",
        "rows": 100,
        "sampled": 40,
        "without_answer": 0,
        "cut": 0,
        "max_length": 512,
        "tokens_sha256": "cd" * 32,
    }
    return DataRecord(**{**given, **changes})


def shares(**named: float) -> list[ShareRecord]:
    return [ShareRecord(name=name, share=mean(share)) for name, share in named.items()]


def samples(count: int = 40) -> list[SampleRecord]:
    groups = {0: ["high"], 1: ["moderate"], 2: ["low"]}
    return [
        SampleRecord(
            row=at + 1,
            loss=0.5 + at / 20,
            norm=40 / (1 + at),
            length=3 + 5 * at,
            cosine=0.01,
            groups=groups.get(at % 5, []),
        )
        for at in range(count)
    ]


def report(**changes: Any) -> GradientsReport:
    numbers = FiveNumbers(min=1.0, q1=2.0, median=3.0, q3=4.0, max=5.0)
    given: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "command": "moored inspect gradients embedded:aligned --data rows.jsonl --out out",
        "versions": {"moored": "0.1.0"},
        "seconds": 61.5,
        "seed": 0,
        "model": ModelRecord(name="embedded:aligned", path="folder", weights_sha256="ab" * 32),
        "parameters": ParametersRecord(which="all", new_lora=False, tensors=12, numbers=123456),
        "data": data(),
        "keep": 0.2,
        "scores": ScoresRecord(norm=numbers, loss=numbers, length=numbers),
        "correlations": correlations(-0.8, 0.05),
        "shares": SharesRecord(
            layer=shares(**{"outside": 0.4, "0": 0.25, "1": 0.35}),
            kind=shares(**{"embeddings, head": 0.6, "up": 0.4}),
            factor=[],
        ),
        "base_direction": base_direction(),
        "samples": samples(),
    }
    return GradientsReport(**{**given, **changes})


def write(folder: Path, **changes: Any) -> Path:
    """Writes the files of a report but its page."""
    return report(**changes).save(folder, overwrite=True)
