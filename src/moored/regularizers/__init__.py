"""During training: penalties on what the model says or on where its weights go. One file per penalty."""

from moored.regularizers._interface import TokenPenalty, WeightPenalty
from moored.regularizers.safety_tokens import SafetyTokens

REGULARIZERS: dict[str, type[TokenPenalty] | type[WeightPenalty]] = {
    "safety_tokens": SafetyTokens,
}
"""The penalties by name; a new one is one line here."""

__all__ = ["REGULARIZERS", "SafetyTokens", "TokenPenalty", "WeightPenalty"]
