"""Models that answer and are scored: generation, log-probabilities, drift."""

from moored.huggingface.inference.answer_length import REASONING_TOKENS, spoken
from moored.huggingface.inference.drift_probe import (
    KL_TOKENS,
    Answers,
    DriftProbe,
    ReferenceAnswers,
    divergence,
    divergence_in_parts,
    record_answers,
    reference_answers,
)
from moored.huggingface.inference.generation import generate
from moored.huggingface.inference.log_probabilities import (
    answer_log_probs,
    answer_logits,
    answer_token_log_probs,
    continuation_log_probs,
)

__all__ = [
    "KL_TOKENS",
    "REASONING_TOKENS",
    "Answers",
    "DriftProbe",
    "ReferenceAnswers",
    "answer_log_probs",
    "answer_logits",
    "answer_token_log_probs",
    "continuation_log_probs",
    "divergence",
    "divergence_in_parts",
    "generate",
    "record_answers",
    "reference_answers",
    "spoken",
]
