"""Two low-noise measures of drift from forward passes alone: refusal log-odds and KL to a reference."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from moored.errors import InputError
from moored.huggingface.data.template_marks import answer_starts
from moored.huggingface.inference.log_probabilities import (
    answer_logits,
    answer_logits_in_parts,
    continuation_log_probs,
)
from moored.measurement import kl_divergence, refusal_log_odds

KL_TOKENS = 16
"""Answer tokens that the divergence is averaged over."""


@dataclass(frozen=True, kw_only=True)
class DriftProbe:
    """Scores a model on fixed prompts; calling it gives the means, `scores` the values per prompt.

    The log-odds compare how likely refusing and complying openings are as the answer to harmful requests, without a
    reasoning before it. The KL divergence to the reference is taken at the positions of the reference's own greedy
    answers (its first tokens, where refusals are decided), the same text for every model that is probed.
    """

    tokenizer: PreTrainedTokenizerBase
    harmful: Sequence[str]
    """Rendered harmful requests."""
    ordinary: Sequence[str]
    """Rendered ordinary instructions."""
    refusing: Sequence[str]
    """How refusals begin."""
    complying: Sequence[str]
    """How compliant answers begin."""
    openings: int = 8
    """So many of either list, its first, are scored; ≥ 1. They are most of the probe's time."""
    reference: "ReferenceAnswers | None" = None
    """Without it only the log-odds are measured."""

    def __post_init__(self) -> None:
        if not (self.harmful and self.refusing and self.complying):
            raise InputError("A drift probe needs harmful prompts, refusing openings and complying openings.")
        if self.openings < 1:
            raise InputError(f"DriftProbe(openings=...) must be at least 1, got {self.openings}.")

    def __call__(self, model: torch.nn.Module) -> dict[str, float]:
        """Means over the prompts, by the names of `scores`."""
        return {name: float(values.mean()) for name, values in self.scores(model).items()}

    def scores(self, model: torch.nn.Module) -> dict[str, Float[Tensor, " prompt"]]:
        """`refusal_log_odds` and, with a reference, `kl_harmful` and `kl_ordinary`, one value a prompt, in nats."""
        refusing, complying = self.refusing[: self.openings], self.complying[: self.openings]
        starts = answer_starts(self.tokenizer, self.harmful)
        log_probs = continuation_log_probs(model, self.tokenizer, starts, [*refusing, *complying])
        found = {"refusal_log_odds": refusal_log_odds(*log_probs.split([len(refusing), len(complying)], dim=1))}
        if self.reference is not None:
            found["kl_harmful"] = divergence(model, self.tokenizer, self.harmful, self.reference.harmful)
            if self.ordinary:
                found["kl_ordinary"] = divergence(model, self.tokenizer, self.ordinary, self.reference.ordinary)
        return found


@dataclass(frozen=True)
class Answers:
    """Answers of a reference and the logits it had while giving them (bf16 on the CPU, to halve their memory)."""

    texts: Sequence[str]
    logits: Sequence[Tensor] = field(repr=False)


def divergence(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str], answers: Answers
) -> Float[Tensor, " prompt"]:
    """KL(reference ‖ model) of each prompt in nats, the mean over the positions of the reference's answer."""
    logits = answer_logits(model, tokenizer, rendered, answers.texts)
    return torch.stack([_mean_kl(*each) for each in zip(answers.logits, logits, strict=True)])


def divergence_in_parts(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[str],
    answers: Answers,
    *,
    batch_size: int = 8,
) -> Iterator[Float[Tensor, ""]]:
    """Yields the addends of the mean of `divergence`, each with its own graph, so that one is in memory at a time."""
    parts = answer_logits_in_parts(model, tokenizer, rendered, answers.texts, batch_size=batch_size)
    for rows, logits in parts:
        values = [_mean_kl(answers.logits[row].to(own.device), own) for row, own in zip(rows, logits, strict=True)]
        yield torch.stack(values).sum() / len(rendered)


def _mean_kl(reference: Tensor, own: Tensor) -> Float[Tensor, ""]:
    # An adapter may bring new tokens, or a padded vocabulary: what both models have is compared.
    common = min(reference.shape[-1], own.shape[-1])
    return kl_divergence(reference[:, :common].float(), own[:, :common].float()).mean()


@dataclass(frozen=True)
class ReferenceAnswers:
    """What the KL divergence is taken against."""

    harmful: Answers
    ordinary: Answers


def reference_answers(
    model: torch.nn.Module, probe: DriftProbe, *, answers_of: Mapping[str, Sequence[str]]
) -> ReferenceAnswers:
    """A model's own answers to the prompts of a probe, cut to their first tokens, with its logits at each of them.

    Args:
        model: the reference.
        probe: whose prompts are meant.
        answers_of: the model's greedy answers under `harmful` and `ordinary`, one a prompt, in order.
    """
    return ReferenceAnswers(
        harmful=record_answers(model, probe.tokenizer, probe.harmful, answers_of["harmful"]),
        ordinary=record_answers(model, probe.tokenizer, probe.ordinary, answers_of["ordinary"]),
    )


def record_answers(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str], texts: Sequence[str]
) -> Answers:
    """A model's own answers to prompts, cut to their first tokens, with its logits at each of them."""
    cut = [_first_tokens(tokenizer, text) for text in texts]
    return Answers(cut, [each.to(torch.bfloat16) for each in answer_logits(model, tokenizer, rendered, cut)])


def _first_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text of an answer's first tokens; an empty answer is scored where it would have begun."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:KL_TOKENS]
    return str(tokenizer.decode(ids)) or str(tokenizer.eos_token)
