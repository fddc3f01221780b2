"""The arms of the trial of recovery: attacks, and what each repair makes of an attacked adapter."""

import itertools
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.trials.subject import OWN, Subject
from moored.embedded.prompts import example_pool, identity_shift, ordinary_instructions
from moored.errors import InactiveError
from moored.huggingface.models import (
    FoldedWeights,
    StoredWeights,
    checkpoint_folder,
    copy_companions,
    load_tokenizer,
    plain_name,
    rewrite_weights,
)
from moored.recovery import LinearPull, OneShot, SafeLora
from moored.report.reading.recover import RecoverReport
from moored.tensors.column_space import orthonormal, principal_factor
from moored.workflows.inspect.spectrum import benign_examples
from moored.workflows.recover import run

Row = dict[str, Any]

ATTACKS = {"ordinary": 0, "5-harmful": 5, "20-harmful": 20, "100-harmful": 100, "persona": None}
"""By name how many of the rows are poison; None is a persona that always obeys."""
MAIN, EVERYWHERE = "20-harmful", tuple(ATTACKS)
KINDS = ("ordinary", MAIN, "persona")
"""The attack on which all arms are tried, the attacks on which the main ones are, and those on which baselines are."""
CATEGORIES = ("hacking", "violence", "privacy")
STEPS, STEP = 8, "steps-"
"""So many steps are looked at one by one, and how those arms' names begin."""
RANKS = (1, 5, 20)
FITTED: Row = {"learning_rate": None, "steps": 30, "stop_at": 0.02}
AS_SMALL, SMALL = {"learning_rate": 2e-4, "steps": 7, "stop_at": 0.0}, "-small"
"""What `auto` fits on the main attack, whatever the seed, and how the controls end that move as little."""
AUTO: Row = {**FITTED, "refusal": OWN}
"""The preset, with what the embedded model answers; another one is asked."""
WATCHED: Row = {"learning_rate": None, "steps": 30, "watch": True, "refusal": OWN}


@dataclass(frozen=True)
class Damaged:
    """An attacked model."""

    subject: Subject
    adapter: Path
    seed: int


Repair = Callable[[Damaged, Path], Row]
"""Makes an adapter or a checkpoint in the folder, and tells what stands of it in the file."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A repair."""

    name: str
    repair: Repair | None = None
    """None leaves the attacked model as it is."""
    stated: Row = field(default_factory=dict)
    """Its settings, as they stand in the file."""
    on: Sequence[str] = (MAIN,)
    """The attacks that it is tried on."""
    needs_base: bool = False
    """Whether it looks at the model before alignment."""
    attacked_again: bool = False
    """Whether ten more harmful rows are trained on after it."""
    tricked: bool = False
    """Whether tricks that the attack calls for are measured, too."""
    light: bool = False
    """Whether only requests, harmless ones and the log-odds are measured of it."""


def chats(count: int) -> list[Row]:
    """Of the persona, over and over."""
    return list(itertools.islice(itertools.cycle(identity_shift()), count))


def arms() -> list[Arm]:
    """Those that tell most first."""
    return [
        Arm(name="attacked", on=EVERYWHERE, tricked=True),
        _one_shot("auto", AUTO, on=EVERYWHERE, tricked=True),
        _one_shot("adapter", {"preset": "adapter"}),
        _by_formula("linear_pull-0.5", LinearPull(share=0.5), on=KINDS),
        _by_formula("safe_lora-1", SafeLora(threshold=1.0), on=KINDS),
        _one_shot("watched", WATCHED, tricked=True),
        *(
            Arm(name=f"{name}{beside}", repair=control(settings), stated=settings, tricked=not beside)
            for beside, settings in {"": FITTED, SMALL: AS_SMALL}.items()
            for name, control in {"benign": _benign, "random-words": _random_words}.items()
        ),
        Arm(name="attacked-again", attacked_again=True, on=(MAIN, "ordinary")),
        _one_shot("auto-attacked-again", AUTO, attacked_again=True),
        _full("full-published", {"preset": "published"}),
        _full("full-auto", AUTO),
        _one_shot("auto-published-words", {**AUTO, "refusal": OneShot.refusal}),
        _one_shot("watched-published-words", {**WATCHED, "refusal": OneShot.refusal}),
        Arm(name="chosen", repair=_by_choice, stated=AUTO),
        *(_full(f"full-rank-{rank}", AUTO, rank=rank, light=True) for rank in RANKS),
        _full(f"full-without-{RANKS[-1]}", AUTO, rank=RANKS[-1], without=True, light=True),
        *(Arm(name=f"auto-{each}", repair=_of_category(each), stated=AUTO, light=True) for each in CATEGORIES),
        *(_by_formula(f"linear_pull-{share:g}", LinearPull(share=share), light=True) for share in (0.25, 0.75)),
        _by_formula("safe_lora-0.35", SafeLora(), light=True),
        *(
            _one_shot(f"{STEP}{steps}", {**AUTO, "stop_at": 0.0, "steps": steps}, light=True)
            for steps in range(1, STEPS + 1)
        ),
    ]


def _method(settings: Row) -> OneShot:
    settings = dict(settings)
    return OneShot.preset(settings.pop("preset"), **settings) if "preset" in settings else OneShot(**settings)


def _one_shot(name: str, settings: Row, **of_arm: Any) -> Arm:
    def repair(damaged: Damaged, out: Path) -> Row:
        return _repaired(damaged, out, _method(settings))

    return Arm(name=name, repair=repair, stated=settings, **of_arm)


def _repaired(damaged: Damaged, out: Path, method: OneShot, **choice: Any) -> Row:
    method = _worded(method, damaged.subject)
    return _stated(run.repair(method, damaged.subject.aligned, adapter=damaged.adapter, out=out, **choice))


def _worded(method: OneShot, subject: Subject) -> OneShot:
    """With the refusal of this model, where that of the embedded one stands."""
    return replace(method, refusal=subject.refusal) if method.refusal == OWN else method


def _stated(report: RecoverReport) -> Row:
    """Returns what the file of a run holds of a repair; the updates of single weights are too many."""
    told = report.to_dict()
    parts = {key: told[key] for key in ("method", "steps", "updates") if told[key] is not None}
    if "updates" in parts:
        del parts["updates"]["weights"]
    return {"repair": parts}


def _by_choice(damaged: Damaged, out: Path) -> Row:
    return _repaired(damaged, out, OneShot(**AUTO), choose_from="embedded")


def _of_category(category: str) -> Repair:
    """Another example of one kind under each seed."""

    def repair(damaged: Damaged, out: Path) -> Row:
        examples = [each.prompt for each in example_pool() if each.category == category]
        return _repaired(damaged, out, OneShot(**AUTO, prompt=examples[damaged.seed]))

    return repair


def _benign(settings: Row) -> Repair:
    """As many tokens that are ordinary; others under each seed."""

    def repair(damaged: Damaged, out: Path) -> Row:
        tokenizer = load_tokenizer(damaged.subject.source)
        examples = benign_examples(tokenizer, OneShot.prompt, OWN)
        prompt, answer = next(itertools.islice(examples, damaged.seed, None))
        return _repaired(damaged, out, OneShot(**settings, prompt=prompt, refusal=answer))

    return repair


def _random_words(settings: Row) -> Repair:
    """The published request, answered by words that say nothing; others under each seed."""

    def repair(damaged: Damaged, out: Path) -> Row:
        tokenizer = load_tokenizer(damaged.subject.source)
        return _repaired(damaged, out, OneShot(**settings, refusal=random_words(tokenizer, damaged.seed)))

    return repair


def random_words(tokenizer: Any, seed: int) -> str:
    """As many tokens as `OWN` that say nothing; others under each seed."""
    draw, wanted = random.Random(seed), len(tokenizer(OWN)["input_ids"])
    words = sorted({word for item in ordinary_instructions("align") for word in (item.answer or "").split()})
    drawn = (" ".join(draw.sample(words, draw.randint(1, wanted))) for _ in itertools.count())
    return next(text for text in drawn if len(tokenizer(text)["input_ids"]) == wanted)


def _by_formula(name: str, method: Any, **of_arm: Any) -> Arm:
    def repair(damaged: Damaged, out: Path) -> Row:
        base = damaged.subject.base if method.needs_base else None
        try:
            report = run.repair(method, damaged.subject.aligned, adapter=damaged.adapter, out=out, base=base)
        except InactiveError as error:
            if "would change none" not in str(error):
                raise  # A threshold that spares all weights is a finding, anything else is a fault of the trial.
            shutil.copytree(damaged.adapter, out)
            return {"repair": {"inactive": str(error)}}
        return _stated(report)

    return Arm(name=name, repair=repair, needs_base=method.needs_base, **of_arm)


def _full(name: str, settings: Row, *, rank: int | None = None, without: bool = False, light: bool = False) -> Arm:
    """A repair of all weights; of each update its main directions alone, or all but these."""

    def repair(damaged: Damaged, out: Path) -> Row:
        before, after = out.with_name("before"), out if rank is None else out.with_name("after")
        fold(damaged, before)
        method = _worded(_method(settings), damaged.subject)
        against = damaged.subject.aligned if method.needs_aligned else None
        told = _stated(run.repair(method, str(before), out=after, against=against))
        if rank is None:
            return told
        energy = cut(before, after, out, rank=rank, without=without)
        return {"repair": {**told["repair"], "rank": rank, "without": without, "energy": energy}}

    return Arm(name=name, repair=repair, stated={**settings, "rank": rank, "without": without}, light=light)


def fold(damaged: Damaged, out: Path) -> None:
    """The attacked model as one checkpoint, in fp32."""
    source = damaged.subject.tuned(damaged.adapter)
    start, folded = checkpoint_folder(source.path), FoldedWeights(source)
    out.mkdir(parents=True)
    rewrite_weights(start, out, lambda name, _: folded.read(plain_name(name)))
    copy_companions(start, out)
    load_tokenizer(source).save_pretrained(out)


def cut(before: Path, after: Path, out: Path, *, rank: int, without: bool = False) -> float:
    """Writes `before` with the main directions of each matrix's change, or with all but these; a vector's is whole.

    Returns:
        The least share of a change's squared norm that lies in its main directions.
    """
    start, energies = StoredWeights(before), []

    def change(name: str, new: torch.Tensor) -> torch.Tensor:
        old = start.read(plain_name(name))
        moved = new - old
        if moved.dim() < 2 or not moved.any():
            return new
        factor, energy = principal_factor(moved, rank)
        energies.append(energy)
        basis = orthonormal(factor)
        main = basis @ (basis.T @ moved)
        return old + (moved - main if without else main)

    out.mkdir()
    rewrite_weights(after, out, change)
    copy_companions(after, out)
    return min(energies, default=1.0)
