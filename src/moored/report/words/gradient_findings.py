"""Sentences on what `moored inspect gradients` found."""

from collections.abc import Sequence

from moored.measurement import Alignment, Correlation, Mean
from moored.report.reading.gradients import BaseDirectionRecord, GradientsReport, ShareRecord, SharesRecord

_NAMES = {"length": "answer length", "loss": "loss"}
Bounds = tuple[float, float] | None


def estimate(mean: Mean, digits: int = 3, sign: str = "") -> str:
    """Writes a mean as in `0.120 [0.070, 0.190] n=100`, or says that it was not measured."""
    return _estimate(mean.mean, mean, digits, sign)


def signed(statistic: Mean | Correlation, digits: int = 2) -> str:
    """Writes a mean or a correlation with its sign, its interval and n."""
    return _estimate(statistic.mean if isinstance(statistic, Mean) else statistic.rho, statistic, digits, "+")


def _estimate(value: float | None, statistic: Mean | Correlation, digits: int, sign: str) -> str:
    if value is None:
        return f"not measured, n={statistic.n}"
    bounds = None if statistic.low is None or statistic.high is None else (statistic.low, statistic.high)
    return f"{value:{sign}.{digits}f} {interval(bounds, digits, sign)} n={statistic.n}"


def interval(bounds: Bounds, digits: int = 3, sign: str = "") -> str:
    """Writes bounds as in `[0.070, 0.190]`, or says that there are none."""
    if bounds is None:
        return "[no interval]"
    return f"[{bounds[0]:{sign}.{digits}f}, {bounds[1]:{sign}.{digits}f}]"


def findings(report: GradientsReport) -> list[str]:
    """States what to read first, one sentence each."""
    sentences = [_correlation("length", report.correlations.length), _correlation("loss", report.correlations.loss)]
    sentences.append(_shares(report.shares))
    if report.base_direction is not None:
        sentences += _base_direction(report.base_direction)
    return [*sentences, report.not_compared] if report.not_compared else sentences


def _correlation(key: str, correlation: Correlation) -> str:
    if correlation.rho is None or correlation.low is None or correlation.high is None:
        return f"Whether gradient norms depend on {_NAMES[key]} was not measured: too few samples, or all the same."
    words = f"Spearman’s rho {signed(correlation)}"
    if correlation.low <= 0 <= correlation.high:
        return f"Gradient norms show no detectable relation to {_NAMES[key]}: {words}."
    return f"Gradient norms {'grow' if correlation.rho > 0 else 'fall'} with {_NAMES[key]}: {words}."


def _shares(shares: SharesRecord) -> str:
    groups: Sequence[tuple[Sequence[ShareRecord], str]] = ((shares.kind, ""), (shares.layer, "layer "))
    largest = [f"{word}{most.name} {estimate(most.share)}" for rows, word in groups if (most := _largest(rows))]
    if not largest:
        return "No sample has a gradient."
    return f"Largest shares of the squared norm, by kind of weight and by layer: {'; '.join(largest)}."


def _largest(rows: Sequence[ShareRecord]) -> ShareRecord | None:
    measured = [row for row in rows if row.share.mean is not None and row.name != "outside"]
    return max(measured, key=lambda row: row.share.mean or 0.0, default=None)


def _base_direction(compared: BaseDirectionRecord) -> list[str]:
    mean, band = compared.together.groups["all"], compared.together.control_means["all"]
    if mean.mean is None or band is None:
        return ["No update could be compared with the base direction: the gradients vanish there."]
    towards = "towards" if mean.mean > band[1] else "away from" if mean.mean < band[0] else None
    verdict = f"{towards} {compared.base}" if towards else f"no more towards {compared.base} than anywhere else"
    numbers = f"mean cosine {signed(mean, 3)}, shuffled signs {interval(band, 3, '+')}"
    return [f"Over all samples, updates point {verdict}: {numbers}.", _by_norm(compared.together)]


def _by_norm(together: Alignment) -> str:
    rho, band = together.norm_cosine, together.control_rho
    groups = ", ".join(f"{name} {signed(together.groups[name], 3)}" for name in ("high", "moderate", "low"))
    if rho.rho is None or rho.low is None or rho.high is None or band is None:
        return f"By gradient norm: {groups}."
    more = rho.low > 0 and rho.rho > band[1]
    less = rho.high < 0 and rho.rho < band[0]
    words = "more" if more else "less" if less else "no more than chance allows"
    numbers = f"Spearman’s rho {signed(rho)}, p = {rho.p_value:.2g}, shuffled signs {interval(band, 2, '+')}"
    return f"Samples of larger norm point towards the base {words}: {numbers}; {groups}."


def remarks(report: GradientsReport) -> list[str]:
    """States what to know when reading the numbers."""
    data, sentences = report.data, []
    if data.without_answer:
        sentences.append(f"Rows left out because they have nothing to learn: {data.without_answer}.")
    if data.cut:
        sentences.append(f"Rows cut to {data.max_length} tokens: {data.cut}.")
    if report.parameters.new_lora:
        sentences.append("These are the factors of a new LoRA: B is zero, so A has no gradient yet.")
    return sentences
