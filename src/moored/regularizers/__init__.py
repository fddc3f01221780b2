"""During training: penalties on what the model says or on where its weights go. One file per penalty."""

from moored.regularizers._interface import Guide, GuidedPenalty, TokenPenalty, WeightPenalty, require_strength
from moored.regularizers.alignment_direction import AlignmentDirection
from moored.regularizers.harmful_direction import HarmfulDirection
from moored.regularizers.safety_tokens import SafetyTokens
from moored.regularizers.update_norm import UpdateNorm

REGULARIZERS: dict[str, type[TokenPenalty] | type[WeightPenalty]] = {
    "alignment_direction": AlignmentDirection,
    "harmful_direction": HarmfulDirection,
    "safety_tokens": SafetyTokens,
    "update_norm": UpdateNorm,
}
"""The penalties by name; a new one is one line here."""

__all__ = [
    "REGULARIZERS",
    "AlignmentDirection",
    "Guide",
    "GuidedPenalty",
    "HarmfulDirection",
    "SafetyTokens",
    "TokenPenalty",
    "UpdateNorm",
    "WeightPenalty",
    "require_strength",
]
