"""Scoring: each sample's loss and gradient norm, exact, for a whole batch in one forward and backward."""

from moored.huggingface.training.scoring.score import Scores, samples_of, score

__all__ = ["Scores", "samples_of", "score"]
