"""During training: penalties on what the model says or on where its weights go. One file per penalty."""

from moored.regularizers._interface import TokenPenalty, WeightPenalty

REGULARIZERS: dict[str, type[TokenPenalty] | type[WeightPenalty]] = {}
"""The penalties by name; a new one is one line here."""

__all__ = ["REGULARIZERS", "TokenPenalty", "WeightPenalty"]
