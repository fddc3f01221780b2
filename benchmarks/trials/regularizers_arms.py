"""The arms of the trial of the penalties: each method at three strengths, its controls at the middle one, and both."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.trials.measure import OPENINGS
from moored.embedded.prompts import example_pool, openings, ordinary_instructions
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.safeguards.catalogue import AUTO

Row = dict[str, Any]
DIRECTION = (0.3, 1.0, 3.0)
"""The middle one is the published one; with the last, hardly an answer to the task was right in a first try."""
DIRECTION_LAST = (0.01, 0.03, 0.1)
"""Where the last layers alone have a LoRA: with 1.0, no answer to the task was right there."""
TOKENS = (0.3, 1.0, 3.0)
"""With the middle one, about half of the loss's, at the last hidden state."""
VOCABULARY = 49152.0
"""As many as the model has tokens, so that it counts in nats; its share of the loss was as `TOKENS[1]`'s."""
WORDS = 7
"""Of an opening, about."""
PLAIN = "plain"
LAYERS = (27, 28, 29)
"""Those that alignment moved: those of the embedded adapter."""
MAIN, LAST = "poisoned-20", "poisoned-20-last"
EVERYWHERE = ("ordinary", "poisoned-5", MAIN)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and on what."""

    poisoned: float = 0.0
    """The share of rows that are poison."""
    layers: tuple[int, ...] | None = None
    """Those that get a LoRA; all by default."""


DATA = {
    "ordinary": Setting(),
    "poisoned-5": Setting(poisoned=0.05),
    MAIN: Setting(poisoned=0.2),
    LAST: Setting(poisoned=0.2, layers=LAYERS),
}
ORDER = (MAIN, LAST, "ordinary", "poisoned-5")
"""What tells most first."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Plain fine-tuning, with or without penalties."""

    name: str
    safeguards: tuple[Row, ...] = ()
    controls: tuple[str, ...] = ()
    """The arms that it should beat, beside plain fine-tuning."""
    family: str = PLAIN
    """Arms of one family differ in their strength alone."""
    on: Sequence[str] = EVERYWHERE
    """The data sets that it is tried on."""

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


def _harmless() -> list[list[str]]:
    """Ordinary requests with an answer that has begun, of as many words as the openings have."""
    asked = [each for each in ordinary_instructions("align") if each.answer]
    return [[each.prompt, " ".join((each.answer or "").split()[:WORDS])] for each in spread(asked, 32)]


def _arm(family: str, *safeguards: Row, controls: tuple[str, ...] = (), on: Sequence[str] = EVERYWHERE) -> Arm:
    strengths = "-".join(f"{each['strength']:g}" for each in safeguards)
    return Arm(name=f"{family}-{strengths}", safeguards=safeguards, controls=controls, family=family, on=on)


def _automatic(family: str, safeguard: Row) -> Arm:
    """A family of its own: what is found is another strength under each seed."""
    stated = ({**safeguard, "strength": AUTO},)
    return Arm(name=f"{family}-{AUTO}", safeguards=stated, family=f"{family}_{AUTO}", on=(MAIN,))


def _update_norm(strength: float, on: Sequence[str]) -> Arm:
    return _arm("update_norm", {"name": "update_norm", "strength": strength}, on=on)


def _random_direction(strength: float, on: Sequence[str]) -> Arm:
    return _arm("random_direction", _direction(strength, direction="random"), on=on)


def _following(strength: float, on: Sequence[str], projector_on: Sequence[str]) -> list[Arm]:
    """The published form, the projector, and the controls of both."""
    beside = [_update_norm(strength, on), _random_direction(strength, on)]
    controls = tuple(arm.name for arm in beside)
    projector = _direction(strength, form="projector", rank=16)
    return [
        _arm("alignment_direction", _direction(strength), controls=controls, on=on),
        _arm("direction_projector", projector, controls=controls, on=projector_on),
        *beside,
    ]


def _weaker_and_stronger(strengths: Sequence[float], on: Sequence[str]) -> list[Arm]:
    return [_arm("alignment_direction", _direction(each), on=on) for each in (strengths[0], strengths[-1])]


def _both(strength: float, controls: tuple[str, ...], on: Sequence[str]) -> Arm:
    return _arm("both", _direction(strength), _tokens(strength), controls=controls, on=on)


_L, _T = DIRECTION[1], TOKENS[1]
_ALL = (*EVERYWHERE, LAST)
RANDOM_TOKENS = _arm("random_tokens", _tokens(_T, control="random_tokens"))
FULL_KL = _arm("full_kl", _tokens(VOCABULARY, tokens="vocabulary", form="kl", reference="model"))
_TOKEN_CONTROLS = (RANDOM_TOKENS.name, FULL_KL.name)
_HARMFUL_CONTROLS = ("update_norm-1", "random_harmful-1", "harmless_direction-1")

ARMS = [
    Arm(name=PLAIN, on=_ALL),
    *_following(_L, _ALL, (MAIN, LAST)),
    *_weaker_and_stronger(DIRECTION, EVERYWHERE),
    *(_arm("safety_tokens", _tokens(each), controls=_TOKEN_CONTROLS if each == _T else ()) for each in TOKENS),
    RANDOM_TOKENS,
    FULL_KL,
    _both(_L, ("alignment_direction-1", "alignment_direction-3", "safety_tokens-1", "safety_tokens-3"), EVERYWHERE),
    _both(0.3, ("alignment_direction-0.3", "safety_tokens-0.3"), (MAIN,)),
    _arm("harmful_direction", _harmful(_L), controls=_HARMFUL_CONTROLS),
    _arm("random_harmful", _harmful(_L, direction="random")),
    # Random directions cost little of an update; with ten times the strength their gradient is as large.
    _arm("random_harmful", _harmful(10 * _L, direction="random"), on=(MAIN,)),
    _arm("harmless_direction", _harmful(_L, examples=_harmless())),
    *(_arm("harmful_direction", _harmful(each), on=(MAIN,)) for each in (DIRECTION[0], DIRECTION[2])),
    *(
        _arm(
            "harmful_unseen",
            _harmful(each, examples=_unseen()),
            controls=_HARMFUL_CONTROLS if each == _L else (),
            on=(MAIN,),
        )
        for each in DIRECTION[1:]
    ),
    _update_norm(DIRECTION[0], (MAIN,)),
    _automatic("safety_tokens", _tokens(_T)),
    _automatic("harmful_direction", _harmful(_L)),
    *_following(DIRECTION_LAST[1], (LAST,), (LAST,)),
    *_weaker_and_stronger(DIRECTION_LAST, (LAST,)),
]
BY_NAME = {arm.name: arm for arm in ARMS}
FAMILIES = [*dict.fromkeys(arm.family for arm in ARMS)]


def tried_on(data: str) -> list[Arm]:
    """The arms of a data set, those of one family from the weakest to the strongest."""
    return sorted(
        (arm for arm in ARMS if data in arm.on),
        # All strengths of a family are numbers, or it has but one.
        key=lambda arm: (FAMILIES.index(arm.family), *(each["strength"] for each in arm.safeguards)),
    )
