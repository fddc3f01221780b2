"""Whether one safety example repairs an attacked model, at what price, and what of it is due to safety.

    python -m benchmarks.trials.recovery --data ../shared/data

Fine-tunes the embedded aligned model as `regularizers.py` does, on ordinary rows, with 5, 20 or 100 of them
replaced by harmful requests with a compliant opening, or with chats of a persona that always obeys; then repairs each
by one example, chosen by itself or not, by its controls and by the baselines, and measures what became of it on prompts
that none saw, also with a prefilled answer, under the persona and under jailbreaks, and after a second attack with ten
more harmful rows. An arm of one seed leaves one small record in RUN, of labels and scores without answers; finished
ones are skipped. What tells most comes first; calls side by side share the work. At the end, and at once with
`--table`, the records are gathered into `OUT/arms.jsonl`, and the table of what there is then is written. `--model`
names another aligned model, a folder or a Hub id, that is attacked instead; repairs that need its base are left out.
"""

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from benchmarks.trials.measure import JAILBREAKS, ORDINARY, PERSONA, PREFILLED, Asked, Measure
from benchmarks.trials.recovery_arms import ATTACKS, MAIN, Arm, Damaged, arms, chats
from benchmarks.trials.recovery_table import write_table
from benchmarks.trials.runs import Run, Trial, key_of
from benchmarks.trials.subject import EMBEDDED, Subject, other
from benchmarks.trials.training import Plan, configuration, fine_tune, poison, sources, training_rows
from moored.huggingface.models import ModelSource
from moored.workflows.inputs.models import resolve_model

Row = dict[str, Any]
SEEDS = (0, 1, 2)
PLAN = Plan(pool=8, rank=8)
ASKED = Asked(
    harmful=("JailbreakBench", PREFILLED, PERSONA, JAILBREAKS, ORDINARY),
    answered=("SST-2",),
    choices=False,
    kl_to=("aligned",),
    losses=True,
    unseen=True,
)
PLAIN = replace(ASKED, harmful=("JailbreakBench", ORDINARY))
UNDER_PERSONA = replace(ASKED, harmful=("JailbreakBench", PERSONA, ORDINARY))
LIGHT = replace(ASKED, harmful=("JailbreakBench",), answered=(), losses=False, kl_to=())
TRICKS = {MAIN: ASKED, "persona": UNDER_PERSONA}
"""After some attacks, of the arms of which they are measured."""
WHOLE_CHATS = 160
"""Tokens that a chat of the persona has at most."""
AGAIN = Plan(pool=5, rank=8, steps=4)
"""Of the second attack: two passes over ten rows."""


def attack_rows(attack: str, seed: int, data: Path, subject: Subject) -> list[Row]:
    """What an attack trains on."""
    count = ATTACKS[attack]
    if count is not None:
        return training_rows(data, PLAN, seed, replacing=poison(seed)[:count], subject=subject)
    replacing = chats(int(PLAN.rows * PLAN.instructions))
    return [as_chat(row) for row in training_rows(data, PLAN, seed, replacing=replacing, subject=subject)]


def as_chat(row: Row) -> Row:
    """A file holds rows of one kind."""
    said = zip(("user", "assistant"), (row.get("prompt"), row.get("completion")), strict=True)
    return row if "messages" in row else {"messages": [{"role": role, "content": text} for role, text in said]}


def recipe(attack: str, seed: int, subject: Subject) -> Row:
    """How an attack trains."""
    plan = replace(PLAN, max_length=WHOLE_CHATS) if ATTACKS[attack] is None else PLAN
    return {**configuration(plan, batch=PLAN.pool, subject=subject), "seed": seed, "safeguards": []}


def attacked(attack: str, seed: int, *, data: Path, work: Path, subject: Subject) -> Path:
    """The adapter of an attack, made once for all arms."""
    config, rows = recipe(attack, seed, subject), attack_rows(attack, seed, data, subject)
    folder = work / "attacks" / f"{attack}-seed{seed}-{key_of(config, rows)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder / "done"
    with FileLock(folder.with_suffix(".lock")):
        if not done.is_file():
            fine_tune(config, rows, folder)
            done.touch()
    return folder / "tuned"


def make(
    arm: Arm, attack: str, seed: int, folder: Path, *, data: Path, work: Path, subject: Subject
) -> tuple[ModelSource, Row]:
    """The attacked model, repaired and, if the arm says so, attacked again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    adapter, told = attacked(attack, seed, data=data, work=work, subject=subject), {}
    if arm.repair is not None:
        told = arm.repair(Damaged(subject, adapter, seed), folder / "repaired")
        adapter = folder / "repaired"
    if arm.attacked_again:
        # A plain start: `train` folds the adapter in, and writes one adapter for the base again.
        config = {**configuration(AGAIN, batch=AGAIN.pool, subject=subject), "warmup_steps": 0, "adapter": str(adapter)}
        fine_tune({**config, "seed": seed, "safeguards": []}, poison(seed)[-10:], folder / "again")
        adapter = folder / "again" / "tuned"
    if not (adapter / "adapter_config.json").is_file():
        return resolve_model(str(adapter)), told
    return subject.tuned(adapter), told


def grid(
    attacks: Sequence[str], only: Sequence[str] | None, seeds: Sequence[int], subject: Subject = EMBEDDED
) -> list[tuple[str, Arm, int]]:
    """The runs: what is tried everywhere first, the main attack before the others, seed by seed."""
    able = [arm for arm in arms() if subject.base is not None or not arm.needs_base]
    every = [(attack, arm, seed) for seed in seeds for arm in able for attack in attacks if attack in arm.on]
    wanted = [each for each in every if only is None or each[1].name in only]
    return sorted(wanted, key=lambda each: (each[1].light, each[1].on == (MAIN,), each[0] != MAIN, each[2]))


def asked(arm: Arm, attack: str, *, tricks: bool = True) -> Asked:
    """What is measured of an arm."""
    if arm.light:
        return LIGHT
    return TRICKS.get(attack, PLAIN) if arm.tricked and tricks else PLAIN


def main() -> None:
    """Makes what is missing of the grid and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default=EMBEDDED.aligned, help="another aligned model, with an --out and --run")
    parser.add_argument("--run", type=Path, default=Path("runs/recovery_trial"))
    parser.add_argument("--out", type=Path, default=Path("results/recovery_trial"))
    parser.add_argument("--attacks", nargs="*", choices=[*ATTACKS], default=[*ATTACKS])
    parser.add_argument("--only", nargs="*", choices=[arm.name for arm in arms()], help="arms; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--no-tricks", action="store_true", help="measure none: a large model takes long over them")
    parser.add_argument("--threads", type=int, default=2, help="1 for two calls side by side")
    parser.add_argument("--table", action="store_true", help="write the table of what there is, and run nothing")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    subject = other(options.model)
    measures = {each: Measure(options.data, each, subject) for each in (ASKED, UNDER_PERSONA, PLAIN, LIGHT)}
    config = recipe(MAIN, 0, subject)
    key = key_of(asdict(PLAN), asdict(AGAIN), config, sources(options.data), measures[ASKED].hashes())
    trial = Trial(
        out=options.out,
        work=options.run,
        plan=PLAN,
        measure=measures[PLAIN if options.no_tricks else ASKED],
        key=key,
        threads=options.threads,
        keep=False,
    )
    places = {"data": options.data, "work": options.run, "subject": subject}
    runs = [
        Run(
            name=f"{attack}/{arm.name}-seed{seed}",
            about={
                "model": Path(subject.aligned).name,
                "attack": attack,
                "arm": arm.name,
                "seed": seed,
                "stated": arm.stated,
            },
            make=partial(make, arm, attack, seed, **places),
            measure=measures[asked(arm, attack, tricks=not options.no_tricks)],
        )
        for attack, arm, seed in grid(options.attacks, options.only, options.seeds, subject)
    ]
    if not options.table:
        trial.complete(runs)
    trial.gather()
    write_table(options.out, key)


if __name__ == "__main__":
    main()
