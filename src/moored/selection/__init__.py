"""Before training: rules that choose which samples to keep. One file per rule."""

from moored.selection._interface import SelectionRule
from moored.selection._rule import DrawingRule, Rule
from moored.selection.comparison import Overlap, overlap, overlaps
from moored.selection.gradient_selection import GradientSelection
from moored.selection.high import High
from moored.selection.length_corrected import LengthCorrected
from moored.selection.length_matched_random import LengthMatchedRandom
from moored.selection.loss_band import LossBand
from moored.selection.low import Low
from moored.selection.moderate import Moderate
from moored.selection.random import Random

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

__all__ = [
    "RULES",
    "DrawingRule",
    "GradientSelection",
    "High",
    "LengthCorrected",
    "LengthMatchedRandom",
    "LossBand",
    "Low",
    "Moderate",
    "Overlap",
    "Random",
    "SelectionRule",
    "overlap",
    "overlaps",
]
