"""Before training: rules that choose which samples to keep. The table of the rules is in `_registry.py`."""

from moored.selection._interface import SelectionRule
from moored.selection._registry import RULES
from moored.selection._rule import DrawingRule
from moored.selection.comparison import Overlap, overlap, overlaps
from moored.selection.controls import High, Low, Random
from moored.selection.gradient_selection import GradientSelection
from moored.selection.length_corrected import LengthCorrected
from moored.selection.length_matched_random import LengthMatchedRandom
from moored.selection.loss_band import LossBand
from moored.selection.moderate import Moderate

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
