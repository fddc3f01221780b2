"""Gradients of single samples and of whole weights, exact and without holding them all in memory."""

from moored.huggingface.gradients.coordinates import coordinate_gradients
from moored.huggingface.gradients.dataset import score_rows
from moored.huggingface.gradients.score import Scores, samples_of, score

__all__ = ["Scores", "coordinate_gradients", "samples_of", "score", "score_rows"]
