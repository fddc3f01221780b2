"""Gradient-based selection as a safeguard: what a user hands to a trainer."""

from dataclasses import dataclass, field

from moored.errors import InputError
from moored.selection._registry import RULES
from moored.selection._rule import DrawingRule, Rule


@dataclass(frozen=True, kw_only=True)
class GradientSelection:
    """Trains on a part of each optimizer step's rows, chosen by their losses and gradient norms at the running weights.

    The pool is all rows of the step: batch size × accumulation × processes, under packing their documents. Fewer rows
    are learned from, so give a run as many steps as it would have without. Scores are of the mean negative
    log-likelihood, whatever loss the trainer has (label smoothing, a loss of your own). Source: "Continual Safety
    Alignment via Gradient-Based Sample Selection" (arXiv 2604.17215), Algorithm 1; the other rules are its controls.

    Raises:
        InputError: `keep` outside (0, 1], or an unknown rule.
    """

    keep: float = 0.2
    """Share of each pool to train on, in (0, 1]; 0.2 is the paper's. 1 declares it off."""
    rule: str = "moderate"
    """The rule, one of `moored.selection.RULES`: `moderate` (the published one), `low`, `high`, `random`, `loss_band`,
    `length_corrected` or `length_matched_random`."""
    seed: int = 0
    """The seed for the rules that draw at random; they draw again at each step."""
    name: str = field(default="gradient_selection", init=False, repr=False)
    needs: frozenset[str] = field(default=frozenset(), init=False, repr=False)

    def __post_init__(self) -> None:
        self.make_rule()

    def make_rule(self) -> Rule:
        """The rule with these settings."""
        if self.rule not in RULES:
            raise InputError(f"There is no selection rule {self.rule}; the rules are {', '.join(RULES)}.")
        kind = RULES[self.rule]
        seed = {"seed": self.seed} if issubclass(kind, DrawingRule) else {}
        return kind(keep=self.keep, **seed)
