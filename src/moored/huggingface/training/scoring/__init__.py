"""Scoring: each sample's loss and gradient norm, exact, for a whole batch in one forward and backward."""

from moored.huggingface.training.scoring.coordinates import coordinate_gradients
from moored.huggingface.training.scoring.dataset import score_rows
from moored.huggingface.training.scoring.score import Scores, samples_of, score

__all__ = ["Scores", "coordinate_gradients", "samples_of", "score", "score_rows"]
