"""What `moored select` reports: the distribution of norms, the length confound, the overlaps, and examples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from moored.huggingface.data import RowStream
from moored.huggingface.gradients.dataset_scores import RowScores
from moored.measurement import spearman, superiority
from moored.selection import GradientSelection, overlaps
from moored.workflows.inputs.prompt_sets import spread

_QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
_MOST_BINS = 40
_POINTS = 1500
"""Rows in the scatter plot: each is an element of the page."""
_EXAMPLES = 5
_TEXT = 600
"""Characters of an example's question and of its answer."""


def selection_numbers(scores: RowScores, kept: Tensor, chosen: GradientSelection) -> dict[str, Any]:
    """The numbers of the report; rows without a supervised token count, but have no loss and no norm.

    Args:
        scores: of all rows.
        kept: the indices of the kept rows, ascending.
        chosen: the rule that kept them.
    """
    able = (scores.lengths > 0).nonzero().flatten()
    is_kept = np.isin(able.numpy(), kept.numpy())
    columns = {
        "norm": scores.norms[able].double().numpy(),
        "loss": scores.losses[able].double().numpy(),
        "tokens": scores.lengths[able].numpy(),
    }
    return {
        "rows": {
            "all": len(scores.lengths),
            "scored": len(able),
            "without_supervised_token": len(scores.lengths) - len(able),
            "cut_at_max_length": int(scores.cut.sum()),
            "kept": len(kept),
        },
        "quantiles": {
            name: {"all": _quantiles(values), "kept": _quantiles(values[is_kept])} for name, values in columns.items()
        },
        "length_confound": _confound(columns, is_kept),
        "overlap": {
            name: each.as_dict()
            for name, each in overlaps(kept, chosen, scores.losses, scores.norms, scores.lengths).items()
        },
        "histogram": _histogram(columns["norm"], is_kept),
        "points": [
            [int(columns["tokens"][n]), float(columns["norm"][n]), bool(is_kept[n])]
            for n in spread(range(len(able)), _POINTS)
        ],
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, list(_QUANTILES.values()))
    return dict(zip(_QUANTILES, map(float, found), strict=True))


def _confound(columns: Mapping[str, np.ndarray], is_kept: np.ndarray) -> dict[str, Any]:
    """How norms hang together with lengths and losses, and what the choice did to the lengths."""
    norms, losses, tokens = (columns[name] for name in ("norm", "loss", "tokens"))
    longer = superiority(tokens[is_kept], tokens[~is_kept])
    return {
        "norm_and_tokens": spearman(norms.tolist(), tokens.tolist()).as_dict(),
        "norm_and_loss": spearman(norms.tolist(), losses.tolist()).as_dict(),
        "kept_longer_than_left_out": longer.as_dict(),
    }


def _histogram(norms: np.ndarray, is_kept: np.ndarray) -> dict[str, list[float]]:
    """Counts in bins of equal width on a logarithmic axis; norms of zero stand in the first."""
    positive = norms[norms > 0]
    low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    bins = int(np.clip(2 * np.sqrt(len(norms)), 5, _MOST_BINS))
    # A hair more at both ends, so that rounding leaves none out and equal norms have a bin of some width.
    edges = np.geomspace(low * 0.99, high * 1.01, bins + 1)
    counts = {
        name: np.histogram(norms[which].clip(edges[0], edges[-1]), edges)[0].tolist()
        for name, which in (("all", slice(None)), ("kept", is_kept))
    }
    return {"edges": edges.tolist(), **counts}


def examples(rows: RowStream, scores: RowScores, kept: Tensor) -> dict[str, list[dict[str, Any]]]:
    """Rows from each tail of the norms and from the middle of the kept ones, their texts cut short."""
    able = (scores.lengths > 0).nonzero().flatten()
    by_norm = able[scores.norms[able].argsort(stable=True)].tolist()
    middle = scores.norms[kept].median()
    nearest = kept[(scores.norms[kept] - middle).abs().argsort(stable=True)[:_EXAMPLES]].tolist()
    picked = {"lowest": by_norm[:_EXAMPLES], "kept_middle": nearest, "highest": by_norm[: -_EXAMPLES - 1 : -1]}
    wanted = {n for group in picked.values() for n in group}
    found = {n: row for n, row in enumerate(rows) if n in wanted}
    inside = {*kept.tolist()}
    return {
        name: [
            {
                "index": n,
                "loss": float(scores.losses[n]),
                "norm": float(scores.norms[n]),
                "tokens": int(scores.lengths[n]),
                "kept": n in inside,
                **_texts(found[n]),
            }
            for n in group
        ]
        for name, group in picked.items()
    }


def _texts(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked and what is to be learned, shortened, each with the characters left off."""
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
    """Text as it is, or the contents of messages; one message alone needs no role."""
    if isinstance(said, str):
        return said
    roles = len(said) > 1
    return "\n".join((f"{each.get('role')}: " if roles else "") + str(each.get("content") or "") for each in said)
