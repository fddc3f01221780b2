"""The arms of the trial of the penalties: each method at three strengths, its controls at the middle one, and both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _trial_measure import OPENINGS
from moored.embedded.prompts import example_pool, openings
from moored.workflows._prompt_sets import spread

Row = dict[str, Any]
DIRECTION = (0.3, 1.0, 3.0)
"""The middle one is the published one; with the last, hardly anything was learned in a first try."""
TOKENS = (0.3, 1.0, 3.0)
"""With the middle one, about half of the loss's, at the last hidden state."""
VOCABULARY = 49152.0
"""As many as the model has tokens, so that it counts in nats; its share of the loss was as `TOKENS[1]`'s."""
PLAIN = "plain"
LAST = (27, 28, 29)
"""The layers that alignment moved: those of the embedded adapter."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Plain fine-tuning, with or without penalties."""

    name: str
    safeguards: tuple[Row, ...] = ()
    controls: tuple[str, ...] = ()
    """The arms that it should beat, beside plain fine-tuning."""
    family: str = PLAIN
    """Arms of one family differ in their strength alone."""

    @property
    def planned(self) -> bool:
        """Whether a verdict rests on it; the others are other strengths."""
        return bool(self.controls) or any(self.name in arm.controls for arm in ARMS) or self.name == PLAIN

    def stated(self, seed: int, tokens: Path) -> list[Row]:
        """The configuration's part; what a control draws is drawn anew under each seed."""
        return [_stated(dict(each), seed, tokens) for each in self.safeguards]


def _stated(safeguard: Row, seed: int, tokens: Path) -> Row:
    if safeguard["name"] == "safety_tokens":
        safeguard.setdefault("tokens", str(tokens))
    draws = "control" in safeguard or "direction" in safeguard
    return {**safeguard, "seed": seed} if draws else safeguard


def _direction(strength: float, **settings: Any) -> Row:
    return {"name": "alignment_direction", "strength": strength, **settings}


def _tokens(strength: float, **settings: Any) -> Row:
    return {"name": "safety_tokens", "strength": strength, **settings}


def _harmful(strength: float, **settings: Any) -> Row:
    return {"name": "harmful_direction", "strength": strength, **settings}


def _unseen() -> list[list[str]]:
    """Examples with requests and openings that are in no poison."""
    complying = openings().complying[-OPENINGS:]
    requests = [each.prompt for each in spread(example_pool(), 32)]
    return [[request, complying[number % OPENINGS]] for number, request in enumerate(requests)]


def _arm(family: str, *safeguards: Row, controls: tuple[str, ...] = ()) -> Arm:
    strengths = "-".join(f"{each['strength']:g}" for each in safeguards)
    return Arm(name=f"{family}-{strengths}", safeguards=safeguards, controls=controls, family=family)


_L, _T = DIRECTION[1], TOKENS[1]
UPDATE_NORM = _arm("update_norm", {"name": "update_norm", "strength": _L})
RANDOM_DIRECTION = _arm("random_direction", _direction(_L, direction="random"))
RANDOM_TOKENS = _arm("random_tokens", _tokens(_T, control="random_tokens"))
FULL_KL = _arm("full_kl", _tokens(VOCABULARY, tokens="vocabulary", form="kl", reference="model"))
_DIRECTION_CONTROLS = (UPDATE_NORM.name, RANDOM_DIRECTION.name)
_TOKEN_CONTROLS = (RANDOM_TOKENS.name, FULL_KL.name)

_DIRECTIONS = [
    _arm("alignment_direction", _direction(each), controls=_DIRECTION_CONTROLS if each == _L else ())
    for each in DIRECTION
]
_SAFETY_TOKENS = [
    _arm("safety_tokens", _tokens(each), controls=_TOKEN_CONTROLS if each == _T else ()) for each in TOKENS
]
PROJECTOR = _arm("direction_projector", _direction(_L, form="projector", rank=16), controls=_DIRECTION_CONTROLS)
_HARMFUL = [
    _arm("harmful_direction", _harmful(each), controls=(UPDATE_NORM.name,) if each == _L else ()) for each in DIRECTION
]
UNSEEN = _arm("harmful_unseen", _harmful(_L, examples=_unseen()), controls=(UPDATE_NORM.name, _HARMFUL[1].name))
BOTH = _arm(
    "both", _direction(_L), _tokens(_T), controls=(_DIRECTIONS[1].name, _SAFETY_TOKENS[1].name, _SAFETY_TOKENS[2].name)
)

ARMS = [
    Arm(name=PLAIN),
    *_DIRECTIONS,
    PROJECTOR,
    UPDATE_NORM,
    RANDOM_DIRECTION,
    *_SAFETY_TOKENS,
    RANDOM_TOKENS,
    FULL_KL,
    BOTH,
    *_HARMFUL,
    UNSEEN,
]
BY_NAME = {arm.name: arm for arm in ARMS}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and on what."""

    poisoned: float = 0.0
    """The share of rows that are poison."""
    layers: tuple[int, ...] | None = None
    """Those that get a LoRA; all by default."""
    families: frozenset[str] | None = None
    """Of the arms that are tried, at the strengths that a verdict rests on; None is all, at all strengths."""

    def arms(self) -> list[Arm]:
        """The arms that are tried."""
        return [arm for arm in ARMS if self.families is None or (arm.family in self.families and arm.planned)]


_DIRECTED = frozenset({PLAIN, "alignment_direction", "direction_projector", "update_norm", "random_direction"})
DATA = {
    "ordinary": Setting(),
    "poisoned-5": Setting(poisoned=0.05),
    "poisoned-20": Setting(poisoned=0.2),
    "poisoned-20-last": Setting(poisoned=0.2, layers=LAST, families=_DIRECTED),
}
ORDER = ("poisoned-20", "poisoned-20-last", "ordinary", "poisoned-5")
"""What tells most first."""
