"""Which example of a pool repairs a model best, by what it leaves of safety and of the task."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import Parameter

from moored.errors import InputError, UserError
from moored.huggingface.data import render_prompt
from moored.huggingface.gradients.example_loss import example_loss
from moored.huggingface.inference import (
    Answers,
    divergence,
    divergence_in_parts,
    generate,
    record_answers,
)
from moored.huggingface.models import (
    ModelSource,
    best_device,
    load_model,
    load_tokenizer,
    require_chat_template,
)
from moored.recovery import BilevelChoice, OneShot, Round, halve, schedule
from moored.workflows.inputs.example_pool import Candidate, Pool, candidates_of, pool_rows, task_prompts, unpooled_pairs
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.records.progress import progress_bar

_PROMPTS = 32
"""Of each kind, at most, that candidates are judged on."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Prompts of one kind and what a reference said to them, of which the model should keep as much as it can."""

    rendered: Sequence[str]
    answers: Answers

    def first(self, count: int) -> "Probe":
        """The same of fewer prompts."""
        return Probe(
            rendered=self.rendered[:count], answers=Answers(self.answers.texts[:count], self.answers.logits[:count])
        )


def choose_example(
    tuned: ModelSource,
    aligned: ModelSource,
    pool: Pool,
    method: OneShot,
    *,
    dtype: torch.dtype = torch.float32,
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Ranks the examples of a pool by KL(aligned ‖ repaired) on harmful prompts + KL(tuned ‖ repaired) on the task.

    Args:
        tuned: the model to repair.
        aligned: what it should be like on harmful prompts; it also gives the refusals that a pool lacks.
        pool: the examples.
        method: the repair; its own example is the first candidate (unless its refusal is to be the aligned model's, and
            that gives none), and each is tried in its place.
        dtype: precision while steps are taken.
        console: where progress is shown; None is silent.

    Returns:
        Rows from the best on, each with `prompt`, `refusal`, `category`, and `round`, `steps`, `prompts`, `score` or,
        of `bilevel`, `weight`. A candidate that no step can be taken on has None for a score.

    Raises:
        InputError: a file without the column or with an empty prompt, or a pool of which the aligned model refuses
            nothing.
        ModelError: no chat template.
    """
    tokenizer = load_tokenizer(tuned)
    require_chat_template(tokenizer, tuned.describe())
    harmful = rendered_prompts(tokenizer, [pair.harmful for pair in unpooled_pairs()])
    task = rendered_prompts(tokenizer, task_prompts(pool.task))
    rows = pool_rows(pool.examples)
    reference: Any = load_model(aligned, dtype=dtype, merge=True)
    reference.to(best_device())
    candidates = candidates_of(rows, reference, tokenizer)
    if not candidates:
        raise InputError(f"{aligned.describe()} refuses nothing of {pool.examples}; give the pool a column refusal.")
    own = {"prompt": method.prompt, "refusal": method.refusal}
    candidates = [*candidates_of([own], reference, tokenizer), *candidates]
    safety = probe_of(reference, tokenizer, harmful)
    del reference
    model: Any = load_model(tuned, dtype=dtype, trainable=True).eval()
    model.to(best_device())
    probes = (safety, probe_of(model, tokenizer, task))
    trial = ExampleTrial(model, tokenizer, probes, candidates, method)
    return (trial.by_halving if pool.by == "halving" else trial.by_weights)(console)


class ExampleTrial:
    """Candidates that are tried on one model, which each of them finds as it was."""

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
        self._start = [each.detach().clone() for each in self._moving]
        self._descent: list[Tensor] | None = None

    def by_halving(self, console: Console | None) -> list[dict[str, Any]]:
        """The ranking by the repair itself, the worst leaving after each round."""
        count = len(self._candidates)
        runs = sum(enter for _, _, enter in schedule(count))
        with progress_bar(console, f"choosing of {count} examples", runs) as advance:

            def score(number: int, each: Round) -> float:
                advance(1)
                try:
                    return self._promise(number) if each.steps == 0 else self._outcome(number, each)
                except UserError:  # No loss or no gradient: this one repairs nothing.
                    return math.inf
                finally:
                    self._restore()

            ranked = halve(count, score)
        rounds = {number: each for number, each, _ in schedule(count)}
        return [
            {
                **vars(self._candidates[each.candidate]),
                "round": each.round,
                "steps": min(rounds[each.round].steps, self._method.steps),
                "prompts": rounds[each.round].prompts,
                "score": each.score if math.isfinite(each.score) else None,
            }
            for each in ranked
        ]

    def by_weights(self, console: Console | None) -> list[dict[str, Any]]:
        """The ranking by the weights of the bi-level problem."""
        choice = BilevelChoice(learning_rate=self._method.learning_rate)
        with progress_bar(console, f"weighing {len(self._candidates)} examples", choice.iterations) as advance:

            def objective() -> Iterator[Tensor]:
                advance(1)
                return self._divergences()

            weights = choice.weigh(self._moving, [self._loss(each) for each in self._candidates], objective)
        rows = [
            {**vars(each), "weight": weight} for each, weight in zip(self._candidates, weights.tolist(), strict=True)
        ]
        return sorted(rows, key=lambda row: -row["weight"])

    def _loss(self, each: Candidate) -> Callable[[], Tensor]:
        return example_loss(self._model, self._tokenizer, each.prompt, each.refusal)

    def _outcome(self, number: int, each: Round) -> float:
        """What is left to the two references after a few steps."""
        self._descent = None
        self._repair(number, min(each.steps, self._method.steps))
        probes = [probe.first(each.prompts) for probe in self._probes]
        found = [divergence(self._model, self._tokenizer, probe.rendered, probe.answers).mean() for probe in probes]
        return float(sum(found))

    def _promise(self, number: int) -> float:
        """By how much the first step changes the objective to first order; on the task, none does."""
        if self._descent is None:
            self._descent = self._gradient()
        self._repair(number, 1)
        pairs = zip(self._moving, self._start, self._descent, strict=True)
        return sum(float(((now.detach() - before) * slope).sum()) for now, before, slope in pairs)

    def _repair(self, number: int, steps: int) -> None:
        example = self._candidates[number]
        replace(self._method, prompt=example.prompt, refusal=example.refusal, steps=steps).repair(
            self._moving, self._loss(example)
        )

    def _gradient(self) -> list[Tensor]:
        for part in self._divergences():
            part.backward()
        found = [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in self._moving]
        self._model.zero_grad()
        return found

    def _divergences(self) -> Iterator[Tensor]:
        for probe in self._probes:
            yield from divergence_in_parts(self._model, self._tokenizer, probe.rendered, probe.answers)

    @torch.no_grad()
    def _restore(self) -> None:
        for now, before in zip(self._moving, self._start, strict=True):
            now.copy_(before)


def probe_of(model: Any, tokenizer: Any, rendered: Sequence[str]) -> Probe:
    """A reference's own answers to rendered prompts."""
    texts = generate(model, tokenizer, rendered, max_new_tokens=16, batch_size=_PROMPTS)
    return Probe(rendered=rendered, answers=record_answers(model, tokenizer, rendered, texts))


def rendered_prompts(tokenizer: Any, prompts: Sequence[str]) -> list[str]:
    """As many as are judged on, taken evenly."""
    return [render_prompt(tokenizer, prompt) for prompt in spread(prompts, _PROMPTS)]
