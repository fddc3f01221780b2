"""Models that answer and are scored: generation, log-probabilities, drift."""

from moored.huggingface.inference.drift_probe import Answers, DriftProbe, ReferenceAnswers, reference_answers
from moored.huggingface.inference.generation import generate
from moored.huggingface.inference.log_probabilities import answer_logits, continuation_log_probs

__all__ = [
    "Answers",
    "DriftProbe",
    "ReferenceAnswers",
    "answer_logits",
    "continuation_log_probs",
    "generate",
    "reference_answers",
]
