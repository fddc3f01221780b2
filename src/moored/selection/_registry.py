"""The table of the rules."""

from moored.selection._rule import Rule
from moored.selection.controls import High, Low, Random
from moored.selection.length_corrected import LengthCorrected
from moored.selection.length_matched_random import LengthMatchedRandom
from moored.selection.loss_band import LossBand
from moored.selection.moderate import Moderate

RULES: dict[str, type[Rule]] = {
    "moderate": Moderate,
    "low": Low,
    "high": High,
    "random": Random,
    "length_matched_random": LengthMatchedRandom,
    "loss_band": LossBand,
    "length_corrected": LengthCorrected,
}
"""The rules by name; a new one is one line here."""
