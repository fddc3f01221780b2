"""The numbers that `moored select` reports: the distribution of norms, the length confound, overlaps, and examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from moored.huggingface.data import RowStream
from moored.huggingface.gradients.dataset_scores import RowScores
from moored.measurement import spearman, superiority
from moored.report.reading.selection import (
    BothQuantiles,
    CorrelationRecord,
    Counts,
    Histogram,
    LengthConfound,
    OverlapRecord,
    Quantiles,
    RowExample,
    SelectionNumbers,
    SuperiorityRecord,
)
from moored.selection import GradientSelection, overlaps
from moored.workflows.inputs.prompt_sets import spread

_QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
_MOST_BINS = 40
_POINTS = 1500
"""The number of rows in the scatter plot, where each is an element of the page."""
_EXAMPLES = 5
_TEXT = 600
"""The characters shown of an example's question and of its answer."""


def selection_numbers(scores: RowScores, kept: Tensor, rule: GradientSelection) -> SelectionNumbers:
    """Computes the numbers of the report; rows without a supervised token count, but have no loss and no norm.

    Args:
        scores: the scores of all rows.
        kept: the indices of the kept rows, ascending.
        rule: the rule that kept them.
    """
    able = (scores.lengths > 0).nonzero().flatten()
    is_kept = np.isin(able.numpy(), kept.numpy())
    columns = {
        "norm": scores.norms[able].double().numpy(),
        "loss": scores.losses[able].double().numpy(),
        "tokens": scores.lengths[able].numpy(),
    }
    return SelectionNumbers(
        rows=Counts(
            all=len(scores.lengths),
            scored=len(able),
            without_supervised_token=len(scores.lengths) - len(able),
            cut_at_max_length=int(scores.cut.sum()),
            kept=len(kept),
        ),
        quantiles={
            name: BothQuantiles(all=_quantiles(values), kept=_quantiles(values[is_kept]))
            for name, values in columns.items()
        },
        length_confound=_confound(columns, is_kept),
        overlap={
            name: OverlapRecord(**overlap.as_dict())
            for name, overlap in overlaps(kept, rule, scores.losses, scores.norms, scores.lengths).items()
        },
        histogram=_histogram(columns["norm"], is_kept),
        points=[
            (int(columns["tokens"][n]), float(columns["norm"][n]), bool(is_kept[n]))
            for n in spread(range(len(able)), _POINTS)
        ],
    )


def _quantiles(values: np.ndarray) -> Quantiles:
    numbers = np.quantile(values, list(_QUANTILES.values()))
    return Quantiles(**dict(zip(_QUANTILES, map(float, numbers), strict=True)))


def _confound(columns: Mapping[str, np.ndarray], is_kept: np.ndarray) -> LengthConfound:
    """Correlates norms with lengths and losses, and compares the lengths of kept rows with those left out."""
    norms, losses, tokens = (columns[name] for name in ("norm", "loss", "tokens"))
    longer = superiority(tokens[is_kept], tokens[~is_kept])
    return LengthConfound(
        norm_and_tokens=_correlation(norms, tokens),
        norm_and_loss=_correlation(norms, losses),
        kept_longer_than_left_out=SuperiorityRecord(**longer.as_dict()),
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> CorrelationRecord:
    found = spearman(one.tolist(), other.tolist())
    return CorrelationRecord(rho=found.rho, low=found.low, high=found.high, n=found.n)


def _histogram(norms: np.ndarray, is_kept: np.ndarray) -> Histogram:
    """Counts rows in bins of equal width on a logarithmic axis; norms of zero stand in the first."""
    positive = norms[norms > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    bins = int(np.clip(2 * np.sqrt(len(norms)), 5, _MOST_BINS))
    # A hair more at both ends, so that rounding leaves none out and equal norms have a bin of some width.
    edges = np.geomspace(low * 0.99, high * 1.01, bins + 1)

    def counts(values: np.ndarray) -> list[int]:
        return np.histogram(values.clip(edges[0], edges[-1]), edges)[0].tolist()

    return Histogram(edges=edges.tolist(), all=counts(norms), kept=counts(norms[is_kept]))


def examples(rows: RowStream, scores: RowScores, kept: Tensor) -> dict[str, list[RowExample]]:
    """Picks rows from each tail of the norms and from the middle of the kept ones, their texts cut short."""
    able = (scores.lengths > 0).nonzero().flatten()
    by_norm = able[scores.norms[able].argsort(stable=True)].tolist()
    middle = scores.norms[kept].median()
    nearest = kept[(scores.norms[kept] - middle).abs().argsort(stable=True)[:_EXAMPLES]].tolist()
    picked = {"lowest": by_norm[:_EXAMPLES], "kept_middle": nearest, "highest": by_norm[: -_EXAMPLES - 1 : -1]}
    wanted = {n for group in picked.values() for n in group}
    texts = {n: row for n, row in enumerate(rows) if n in wanted}
    inside = {*kept.tolist()}
    return {
        name: [
            RowExample(
                index=n,
                loss=float(scores.losses[n]),
                norm=float(scores.norms[n]),
                tokens=int(scores.lengths[n]),
                kept=n in inside,
                **_texts(texts[n]),
            )
            for n in group
        ]
        for name, group in picked.items()
    }


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the question and the answer to learn, shortened, each with the number of characters left off."""
    if row.get("messages"):
        *before, last = row["messages"]
        asked, answer = _spoken(before), _spoken([last])
    elif row.get("prompt") is not None:
        asked, answer = _spoken(row["prompt"]), _spoken(row.get("completion") or "")
    else:
        asked, answer = "", str(row.get("text") or "")
    return {
        "prompt": asked[:_TEXT],
        "prompt_left": max(0, len(asked) - _TEXT),
        "answer": answer[:_TEXT],
        "answer_left": max(0, len(answer) - _TEXT),
    }


def _spoken(said: str | Sequence[Mapping[str, Any]]) -> str:
    """Joins the contents of messages; text stays as it is, and a single message needs no role."""
    if isinstance(said, str):
        return said
    roles = len(said) > 1
    return "\n".join((f"{each.get('role')}: " if roles else "") + str(each.get("content") or "") for each in said)
