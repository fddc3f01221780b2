"""The arms of the trial of recovery: attacks, and what each repair makes of an attacked adapter."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _trial_subject import Subject
from moored.embedded.prompts import example_pool, identity_shift, ordinary_instructions
from moored.errors import InactiveError
from moored.huggingface.models import adapter_updates, write_updates
from moored.recovery import LinearPull, OneShot, SafeLora
from moored.tensors.low_rank import LowRank, compressed
from moored.workflows.recover import Pool, recover

Row = dict[str, Any]
Repair = Callable[[Subject, Path, Path], Row]
"""Makes an adapter in the second folder of the attacked one in the first, and tells what stands of it in the file."""

ATTACKS = {"ordinary": 0, "poisoned-5": 5, "poisoned-20": 20, "poisoned-100": 100, "identity": None}
"""By name how many of the rows are poison; None is the persona that always obeys."""
MAIN = "poisoned-20"
"""The attack on which all arms are tried."""
OWN = "I'm sorry, but I can't help with that."
"""A refusal in the aligned model's words."""
CATEGORIES = ("hacking", "violence", "privacy")
STEPS = (1, 2, 3, 4, 6, 8, 12)
RANKS = (1, 5, 20)
_FIXED = {"learning_rate": None, "steps": 30, "stop_at": 0.02}
"""Of controls: the watch would keep none of their steps."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A repair."""

    name: str
    repair: Repair | None = None
    """None leaves the attacked model as it is."""
    everywhere: bool = False
    """Whether it is tried on all attacks."""
    needs_base: bool = False
    """Whether it looks at the model before alignment."""
    attacked_again: bool = False
    """Whether ten harmful rows are trained on after it."""


def _by_example(**settings: Any) -> Repair:
    def repair(subject: Subject, attacked: Path, out: Path) -> Row:
        record = recover(subject.aligned, adapter=attacked, out=out, method=OneShot(**settings))
        return {"repair": {"method": record["method"], "steps": record["steps"]}}

    return repair


def _by_choice(subject: Subject, attacked: Path, out: Path) -> Row:
    method = OneShot.preset("auto", refusal=OWN)
    record = recover(subject.aligned, adapter=attacked, out=out, method=method, pool=Pool())
    return {"repair": {"method": record["method"], "steps": record["steps"]}}


def _by_formula(method: Any) -> Repair:
    def repair(subject: Subject, attacked: Path, out: Path) -> Row:
        base = subject.base if method.needs_base else None
        try:
            record = recover(subject.aligned, adapter=attacked, out=out, method=method, base=base)
        except InactiveError as error:
            shutil.copytree(attacked, out)
            return {"repair": {"inactive": str(error)}}
        updates = {key: value for key, value in record["updates"].items() if key != "weights"}
        return {"repair": {"method": record["method"], "updates": updates}}

    return repair


def _main_directions(rank: int) -> Repair:
    """The repair's update with the main directions of each weight alone."""

    def repair(subject: Subject, attacked: Path, out: Path) -> Row:
        whole = out.with_name("whole")
        told = _by_example(**_AUTO)(subject, attacked, whole)
        before, after = adapter_updates(attacked), adapter_updates(whole)
        kept = {name: before[name] + truncated(after[name] - before[name], rank) for name in before}
        out.mkdir()
        write_updates(kept, out, like=attacked)
        return {"repair": {**told["repair"], "rank": rank}}

    return repair


def truncated(update: LowRank, rank: int) -> LowRank:
    """The best approximation of a lower rank: the factors of `compressed` are ordered by singular value."""
    ordered = compressed(update)
    return LowRank(ordered.b[:, :rank], ordered.a[:rank])


def attack_rows(count: int) -> list[Row]:
    """Chats of the persona, over and over."""
    chats = identity_shift()
    return [chats[number % len(chats)] for number in range(count)]


def _benign() -> tuple[str, str]:
    """An ordinary instruction with a short answer."""
    item = min((each for each in ordinary_instructions("align") if each.answer), key=lambda each: len(each.answer))
    return item.prompt, item.answer


_AUTO: Row = {"learning_rate": None, "steps": 30, "watch": True, "refusal": OWN}
_GENERAL = OneShot.prompt
_RANDOM = "Orange ladders, but I whisper with seven."
"""As many tokens as `OWN`, more or less, that say nothing."""


def arms() -> list[Arm]:
    """Those that tell most first."""
    benign = dict(zip(("prompt", "refusal"), _benign(), strict=True))
    first = {category: next(each for each in example_pool() if each.category == category) for category in CATEGORIES}
    return [
        Arm(name="attacked", everywhere=True),
        Arm(name="auto", repair=_by_example(**_AUTO), everywhere=True),
        Arm(name="auto-published", repair=_by_example(**{**_AUTO, "refusal": OneShot.refusal}), everywhere=True),
        Arm(name="linear_pull-0.5", repair=_by_formula(LinearPull(share=0.5)), everywhere=True),
        Arm(name="safe_lora-1", repair=_by_formula(SafeLora(threshold=1.0)), needs_base=True, everywhere=True),
        Arm(name="benign", repair=_by_example(**_FIXED, **benign)),
        Arm(name="random-words", repair=_by_example(**_FIXED, prompt=_GENERAL, refusal=_RANDOM)),
        Arm(name="attacked-again", attacked_again=True),
        Arm(name="auto-attacked-again", repair=_by_example(**_AUTO), attacked_again=True),
        *(
            Arm(name=f"auto-{category}", repair=_by_example(**_AUTO, prompt=each.prompt))
            for category, each in first.items()
        ),
        *(Arm(name=f"linear_pull-{share:g}", repair=_by_formula(LinearPull(share=share))) for share in (0.25, 0.75)),
        Arm(name="safe_lora-0.35", repair=_by_formula(SafeLora()), needs_base=True),
        *(Arm(name=f"rank-{rank}", repair=_main_directions(rank)) for rank in RANKS),
        *(
            Arm(name=f"steps-{steps}", repair=_by_example(**{**_AUTO, "watch": False, "steps": steps}))
            for steps in STEPS
        ),
        Arm(name="chosen", repair=_by_choice),
    ]
