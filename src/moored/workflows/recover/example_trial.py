"""Trials of safety examples on one model: how well a repair by each of them keeps what should be kept."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import Parameter

from moored.errors import UserError
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.inference import Answers, divergence, divergence_in_parts
from moored.recovery import BilevelChoice, OneShot, Round, Standing, halve, schedule
from moored.report.reading.recover import BilevelRecord, HalvingRecord
from moored.workflows.inputs.example_pool import Candidate
from moored.workflows.records.progress import progress_bar


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Prompts of one kind with a reference's answers, of which the model should keep as much as it can."""

    rendered: Sequence[str]
    answers: Answers

    def first(self, count: int) -> "Probe":
        """Returns the probe with only its first prompts."""
        return Probe(
            rendered=self.rendered[:count], answers=Answers(self.answers.texts[:count], self.answers.logits[:count])
        )


class ExampleTrial:
    """Tries candidates on one model, which is restored after each of them."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        probes: tuple[Probe, Probe],
        candidates: Sequence[Candidate],
        method: OneShot,
    ) -> None:
        self._model, self._tokenizer, self._probes = model, tokenizer, probes
        self._candidates, self._method = candidates, method
        self._moving: list[Parameter] = [each for each in model.parameters() if each.requires_grad]
        self._start = [parameter.detach().clone() for parameter in self._moving]
        self._descent: list[Tensor] | None = None

    def by_halving(self, console: Console | None) -> list[HalvingRecord]:
        """Ranks the candidates by trial repairs, dropping the worst each round."""
        count = len(self._candidates)
        planned = schedule(count)
        trials = sum(entering for _, _, entering in planned)
        with progress_bar(console, f"choosing from {count} examples", trials) as advance:

            def score(number: int, plan: Round) -> float:
                advance(1)
                return self._score(number, plan)

            ranked = halve(count, score)
        rounds = {number: plan for number, plan, _ in planned}
        return [self._record(standing, rounds[standing.round]) for standing in ranked]

    def _record(self, standing: Standing, plan: Round) -> HalvingRecord:
        return HalvingRecord(
            **vars(self._candidates[standing.candidate]),
            round=standing.round,
            steps=min(plan.steps, self._method.steps),
            prompts=plan.prompts,
            score=standing.score if math.isfinite(standing.score) else None,
        )

    def _score(self, number: int, plan: Round) -> float:
        try:
            return self._promise(number) if plan.steps == 0 else self._outcome(number, plan)
        except UserError:  # A candidate without a loss or a gradient repairs nothing.
            return math.inf
        finally:
            self._restore()

    def by_weights(self, console: Console | None) -> list[BilevelRecord]:
        """Ranks the candidates by the weights of the bi-level problem."""
        choice = BilevelChoice(learning_rate=self._method.learning_rate)
        with progress_bar(console, f"weighing {len(self._candidates)} examples", choice.iterations) as advance:

            def objective() -> Iterator[Tensor]:
                advance(1)
                return self._divergences()

            weights = choice.weigh(self._moving, [self._loss(each) for each in self._candidates], objective)
        rows = [
            BilevelRecord(**vars(candidate), weight=weight)
            for candidate, weight in zip(self._candidates, weights.tolist(), strict=True)
        ]
        return sorted(rows, key=lambda row: -row.weight)

    def _loss(self, candidate: Candidate) -> Callable[[], Tensor]:
        return example_loss(self._model, self._tokenizer, candidate.prompt, candidate.refusal)

    def _outcome(self, number: int, plan: Round) -> float:
        """Computes the divergence from the two references after a few steps."""
        self._descent = None
        self._repair(number, min(plan.steps, self._method.steps))
        probes = [probe.first(plan.prompts) for probe in self._probes]
        return sum(
            float(divergence(self._model, self._tokenizer, probe.rendered, probe.answers).mean()) for probe in probes
        )

    def _promise(self, number: int) -> float:
        """Computes the change of the objective by the first step, to first order; the task's part does not change."""
        if self._descent is None:
            self._descent = self._gradient()
        self._repair(number, 1)
        pairs = zip(self._moving, self._start, self._descent, strict=True)
        return sum(float(((now.detach() - before) * slope).sum()) for now, before, slope in pairs)

    def _repair(self, number: int, steps: int) -> None:
        candidate = self._candidates[number]
        method = replace(self._method, prompt=candidate.prompt, refusal=candidate.refusal, steps=steps)
        method.repair(self._moving, self._loss(candidate))

    def _gradient(self) -> list[Tensor]:
        for part in self._divergences():
            part.backward()
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
            for parameter in self._moving
        ]
        self._model.zero_grad()
        return gradients

    def _divergences(self) -> Iterator[Tensor]:
        for probe in self._probes:
            yield from divergence_in_parts(self._model, self._tokenizer, probe.rendered, probe.answers)

    @torch.no_grad()
    def _restore(self) -> None:
        for now, before in zip(self._moving, self._start, strict=True):
            now.copy_(before)
