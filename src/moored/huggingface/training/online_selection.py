"""Gradient-based selection at work in a trainer: a pool of rows in, the rows to train on out, step by step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object

from moored.errors import InactiveError
from moored.huggingface.data import IGNORED
from moored.huggingface.training.rows import Batch, Row, is_packed, put_together, spread, take_apart, unlabelled
from moored.huggingface.training.scoring import Scores
from moored.selection import GradientSelection


class _Candidate(NamedTuple):
    """One row of the pool; in this order the rows of all processes stand as in the dataset."""

    batch: int
    process: int
    row: int
    loss: float
    norm: float
    length: int


@dataclass
class _Tally:
    """Rows, and the supervised tokens in them."""

    rows: int = 0
    tokens: int = 0

    def add(self, candidates: Sequence[_Candidate]) -> None:
        self.rows += len(candidates)
        self.tokens += sum(each.length for each in candidates)

    @property
    def length(self) -> float:
        return self.tokens / self.rows if self.rows else 0.0


class OnlineSelection:
    """One `GradientSelection` in one process of a trainer.

    Args:
        settings: what the user asked for.
        process: the number of this process.
        pool: rows of an optimizer step over all processes, or None where that is not known beforehand.

    Raises:
        InactiveError: the pool holds a single row, among which nothing can be chosen.
    """

    def __init__(self, settings: GradientSelection, *, process: int, pool: int | None) -> None:
        if pool == 1:
            raise InactiveError(
                f"The safeguard {settings.name} chooses among the rows of one optimizer step, which has one only; "
                "raise per_device_train_batch_size or gradient_accumulation_steps."
            )
        self.safeguard = settings
        self._rule = settings.make_rule()
        self._process, self._expected = process, pool
        self._seen, self._kept = _Tally(), _Tally()
        self._recent: list[tuple[list[_Candidate], list[_Candidate]]] = []

    def choose(self, batches: Sequence[Batch], score: Callable[[Batch], Scores], step: int) -> list[Batch]:
        """The kept rows of this process in as many batches as before; one left empty runs a row with nothing to learn.

        Only losses, norms and lengths go from process to process: each trains its own kept rows.

        Args:
            batches: the micro-batches of one optimizer step.
            score: scores a batch at the running weights; not called by rules that do not look.
            step: the optimizer step.

        Raises:
            InputError: batches that cannot be taken apart, or a loss or norm that is not finite.
            InactiveError: no row of the pool has a supervised token.
        """
        rows = [take_apart(batch) for batch in batches]
        own = [
            candidate
            for number, (batch, parts) in enumerate(zip(batches, rows, strict=True))
            for candidate in self._candidates(number, parts, score(batch) if self._rule.scored else None)
        ]
        pool = sorted(gather_object(own))
        kept = self._keep(pool, step)
        mine = [rows[each.batch][each.row] for each in kept if each.process == self._process]
        packed = is_packed(batches[0])
        return [
            put_together(part or [unlabelled(before[0])], like)
            for part, before, like in zip(spread(mine, len(batches), by_length=packed), rows, batches, strict=True)
        ]

    def _candidates(self, batch: int, rows: Sequence[Row], scores: Scores | None) -> list[_Candidate]:
        """The rows of a batch; a single token has nothing to predict, and is what packed batches are filled up with."""
        unknown = [float("nan")] * len(rows)
        losses = unknown if scores is None else scores.losses.tolist()
        norms = unknown if scores is None else scores.norms.tolist()
        return [
            _Candidate(batch, self._process, number, loss, norm, int((row["labels"][1:] != IGNORED).sum()))
            for number, (row, loss, norm) in enumerate(zip(rows, losses, norms, strict=True))
            if len(row["labels"]) > 1
        ]

    def _keep(self, pool: list[_Candidate], step: int) -> list[_Candidate]:
        losses, norms = torch.tensor([[row.loss, row.norm] for row in pool], dtype=torch.float64).unbind(1)
        lengths = torch.tensor([row.length for row in pool])
        kept = [pool[index] for index in self._rule(losses, norms, lengths, step=step).tolist()]
        self._seen.add(pool)
        self._kept.add(kept)
        self._recent.append((pool, kept))
        return kept

    def announce(self) -> str:
        """The rule, and what it chooses from."""
        rows = "packed documents" if self._expected is None else f"{self._expected} rows"
        return f"keeps {self.safeguard.keep:g} of the {rows} of each step by the rule {self.safeguard.rule}"

    def drain(self, loss: float) -> dict[str, float]:
        """Since the last call: the share kept, and means of norm and length over the pool and over the kept rows."""
        pool, kept = ([row for step in self._recent for row in step[which]] for which in (0, 1))
        self._recent.clear()
        if not pool:
            return {}
        logs = {"kept": len(kept) / len(pool)}
        for name in ("norm", "length") if self._rule.scored else ("length",):
            for suffix, rows in (("", pool), ("_kept", kept)):
                logs[f"{name}{suffix}"] = fmean(getattr(row, name) for row in rows)
        return {f"safety/{self.safeguard.name}/{key}": value for key, value in logs.items()}

    def finish(self, loss: float) -> str:
        """How many rows it kept; raises InactiveError where it never left one out."""
        if self._seen.rows and self._seen.rows == self._kept.rows:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} left no row out, since no step had more than one to choose from; "
                "raise the batch size or the gradient accumulation."
            )
        return (
            f"kept {self._kept.rows} of {self._seen.rows} rows, with {self._kept.length:.1f} tokens to learn from on "
            f"average where all have {self._seen.length:.1f}"
        )

    def report(self) -> dict[str, Any]:
        """Its settings, how many rows it saw and kept, and how many tokens they have to learn from, on average."""
        settings = {name: getattr(self.safeguard, name) for name in ("rule", "keep", "seed")}
        counts = {"rows": self._seen.rows, "kept": self._kept.rows}
        return {**settings, **counts, "length": self._seen.length, "length_kept": self._kept.length}
