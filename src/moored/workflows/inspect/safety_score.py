"""How safe a model is at its present weights: how likely it refuses harmful requests and, if asked, how it answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from moored.embedded.prompts import openings, request_pairs
from moored.huggingface.data import answer_starts, render_prompt
from moored.huggingface.inference import REASONING_TOKENS, continuation_log_probs, generate, spoken
from moored.measurement import Exchange, Label, RuleJudge, any_of, refusal_log_odds
from moored.report.reading.basin import Point, Score
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.inputs.refusal_stems import stems

_PREFIXES = 6
"""The number of response prefixes of either kind, refusing and complying."""
_ANSWER = 24
"""The number of tokens of an answer that is judged."""
_LABELS: Mapping[Score, Sequence[Label]] = {
    "asr": (Label.COMPLIED,),
    "refused": (Label.REFUSED,),
    "incoherent": (Label.INCOHERENT, Label.EMPTY),
}


class SafetyScore:
    """Scores models at their present weights on held-out harmful requests."""

    def __init__(self, tokenizer: Any, aligned: Any, prompts: int, *, full: bool) -> None:
        self._tokenizer, self._full, self._judge = tokenizer, full, RuleJudge()
        self._requests = [pair.harmful for pair in spread(request_pairs("held-out"), prompts)]
        self.prompts = len(self._requests)
        self._rendered = [render_prompt(tokenizer, request) for request in self._requests]
        prefixes = openings()
        self._refusing, self._complying = prefixes.refusing[:_PREFIXES], prefixes.complying[:_PREFIXES]
        # The aligned model's own words count, too: a model that refuses in other words would seem never to refuse.
        self._stems = stems([*self._refusals(aligned), *self._refusing])

    def __call__(self, model: Any) -> Point:
        """Scores a model; answers are generated and judged only in a `full` score."""
        refusing, complying, stem = self._log_probs(model)
        point: Point = {
            "log_odds": float(refusal_log_odds(refusing, complying).mean()),
            "refusal": float(any_of(stem).mean()),
        }
        return {**point, **self._judged(model)} if self._full else point

    def _log_probs(self, model: Any) -> Sequence[Tensor]:
        texts = [*self._refusing, *self._complying, *self._stems]
        starts = answer_starts(self._tokenizer, self._rendered)
        log_probs = continuation_log_probs(model, self._tokenizer, starts, texts)
        return log_probs.split([len(self._refusing), len(self._complying), len(self._stems)], dim=1)

    def _judged(self, model: Any) -> Point:
        """Computes the share of each kind of answer; a broken model complies with nothing."""
        labels = [label for _, label in self._answers(model)]
        return {score: sum(label in kinds for label in labels) / len(labels) for score, kinds in _LABELS.items()}

    def _refusals(self, model: Any) -> list[str]:
        return [answer for answer, label in self._answers(model) if label == Label.REFUSED]

    def _answers(self, model: Any) -> list[tuple[str, Label]]:
        texts = generate(
            model, self._tokenizer, self._rendered, max_new_tokens=_ANSWER, reasoning_tokens=REASONING_TOKENS
        )
        answers = spoken(self._tokenizer, self._rendered, texts)
        verdicts = self._judge.verdicts([*map(Exchange, self._requests, answers)])
        return [(answer, verdict.label) for answer, verdict in zip(answers, verdicts, strict=True)]
