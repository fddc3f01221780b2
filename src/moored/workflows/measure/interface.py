"""What `moored measure` needs of a model, however it runs: texts, and probabilities where there are any."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, kw_only=True)
class DriftPrompts:
    """The rendered prompts whose next-token probabilities show drift, and the openings that are looked for."""

    harmful: Sequence[str]
    ordinary: Sequence[str]
    refusing: Sequence[str]
    """How refusals begin."""
    complying: Sequence[str]
    """How compliant answers begin."""


@runtime_checkable
class Scorer(Protocol):
    """A model whose probabilities are known."""

    def scores(self, prompts: DriftPrompts, reference: Any) -> Mapping[str, Sequence[float]]:
        """Scores each prompt, by the keys of the measures.

        Args:
            prompts: what is scored.
            reference: what `reference` of another model returned; None without one.
        """
        ...

    def reference(self, prompts: DriftPrompts, answers: Mapping[str, Sequence[str]]) -> Any:
        """What other models of its kind are compared with.

        Args:
            prompts: what was asked.
            answers: this model's answers to the harmful and to the ordinary ones.
        """
        ...


@runtime_checkable
class Answerer(Protocol):
    """A model that answers prompts."""

    @property
    def precision(self) -> str | None:
        """The precision of its weights; None where nobody knows."""
        ...

    @property
    def scorer(self) -> Scorer | None:
        """The same model's probabilities; None where it gives texts alone, and then drift is not measured."""
        ...

    def answers(
        self,
        rendered: Sequence[str],
        lengths: Sequence[int],
        progress: Callable[[int], object],
        is_final: Callable[[int, str], bool] | None,
    ) -> Iterator[Mapping[int, str]]:
        """Yields greedy answers by the position of their prompts, some at a time, as they come.

        Reasoning is part of an answer, with its marks.

        An answer may depend on the prompts that are yielded with it and after it, but not on those before: what is
        left of an interrupted run gets the answers that it would have got.

        Args:
            rendered: prompts as the chat template renders them.
            lengths: the maximum number of tokens of each answer, its reasoning not counted.
            progress: called with the number of answers whenever some are ready.
            is_final: tells by the position of a prompt and its answer so far whether the answer may end there.
        """
        ...
