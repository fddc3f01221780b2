"""Gradient-based selection at work in a trainer: a pool of rows in, the rows to train on out, step by step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from accelerate.utils import gather_object

from moored.errors import InactiveError
from moored.huggingface.data import IGNORED
from moored.huggingface.gradients import Scores
from moored.huggingface.safeguards.rows import Batch, Row, is_packed, put_together, spread, take_apart, unlabelled
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
    """Rows, and sums over them."""

    rows: int = 0
    supervised: int = 0
    """Those with something to learn; the others have no norm, and would halve a mean as zeros."""
    length: int = 0
    norm: float = 0.0

    def add(self, candidates: Sequence[_Candidate]) -> None:
        self.rows += len(candidates)
        self.supervised += sum(each.length > 0 for each in candidates)
        self.length += sum(each.length for each in candidates)
        self.norm += sum(each.norm for each in candidates)

    def mean(self, name: Literal["length", "norm"]) -> float:
        """Over the supervised rows."""
        return getattr(self, name) / self.supervised if self.supervised else 0.0


@dataclass
class _Count:
    """What was there to choose from, and what was chosen."""

    pool: _Tally = field(default_factory=_Tally)
    kept: _Tally = field(default_factory=_Tally)

    def add(self, pool: Sequence[_Candidate], kept: Sequence[_Candidate]) -> None:
        self.pool.add(pool)
        self.kept.add(kept)


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
        self._all, self._recent = _Count(), _Count()
        self.filled = 1.0
        """Share of the last step's micro-batches, over all processes, that kept rows are in."""

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
        # Documents that stood one a batch must not meet: the model may not be able to keep them apart.
        packed = is_packed(batches[0]) and any(len(before) > 1 for before in rows)
        parts = spread(mine, len(batches), by_length=packed)
        shares = gather_object([sum(map(bool, parts)) / len(parts)])
        self.filled = sum(shares) / len(shares)
        return [
            put_together(part or [unlabelled(max(before, key=lambda row: len(row["labels"])))], like)
            for part, before, like in zip(parts, rows, batches, strict=True)
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
        self._all.add(pool, kept)
        self._recent.add(pool, kept)
        return kept

    def require_chosen(self) -> None:
        """Raises InactiveError before the first choice: the trainer then trains on batches that never came by."""
        if not self._all.pool.rows:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} was handed no rows to choose from: this trainer does not fetch "
                "its batches by get_batch_samples; use another version of transformers, or take the safeguard out."
            )

    def announce(self) -> str:
        """The rule, and what it chooses from."""
        keep, rule = f"{self.safeguard.keep:g}", f"by the rule {self.safeguard.rule}"
        if self._expected is None:
            return f"keeps {keep} of the packed documents of each step {rule}"
        return (
            f"keeps {self._rule.count(self._expected)} of the {self._expected} rows of each step (keep {keep}) {rule}"
        )

    def drain(self) -> dict[str, float]:
        """Since the last call: the share kept, and means of norm and length over the pool and over the kept rows."""
        recent, self._recent = self._recent, _Count()
        if not recent.pool.rows:
            return {}
        logs = {"kept": recent.kept.rows / recent.pool.rows}
        names: tuple[Literal["length", "norm"], ...] = ("length", "norm") if self._rule.scored else ("length",)
        for name in names:
            logs |= {name: recent.pool.mean(name), f"{name}_kept": recent.kept.mean(name)}
        return {f"safety/{self.safeguard.name}/{key}": value for key, value in logs.items()}

    def finish(self) -> str:
        """How many rows it kept; raises InactiveError where it never left one out."""
        pool, kept = self._all.pool, self._all.kept
        if pool.rows and pool.rows == kept.rows:
            raise InactiveError(
                f"The safeguard {self.safeguard.name} left no row out, since no step had more than one to choose from; "
                "raise the batch size or the gradient accumulation."
            )
        return (
            f"kept {kept.rows} of the {pool.rows} rows that it saw, with {kept.mean('length'):.1f} tokens to learn "
            f"from on average where all have {pool.mean('length'):.1f}"
        )

    def report(self) -> dict[str, Any]:
        """Its settings, how many rows it saw and kept, and how many tokens they have to learn from, on average."""
        settings = {name: getattr(self.safeguard, name) for name in ("rule", "keep", "seed")}
        pool, kept = self._all.pool, self._all.kept
        lengths = {"length": pool.mean("length"), "length_kept": kept.mean("length")}
        return {**settings, "rows": pool.rows, "kept": kept.rows, **lengths}
