"""Whether gradient-based selection keeps a model aligned, against its own controls.

    python -m benchmarks.trials.selection --data ../shared/data --run runs/selection_trial --out results/selection_trial

Fine-tunes the embedded aligned model on a mix of instructions, sentiment labels and SQL, an arm for each rule and
seed, all for the same number of optimizer steps, and measures what became of it on prompts that no rule saw. An arm of
one seed leaves one small record in RUN, of labels and scores without answers; finished ones are skipped. `--only` and
`--seeds` choose a part of the grid, and calls side by side share the work. At the end the records are gathered into
`OUT/arms.jsonl`, and the table of what there is then is written.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.trials.measure import Asked, Measure
from benchmarks.trials.runs import Run, Trial, key_of
from benchmarks.trials.selection_table import write_table
from benchmarks.trials.training import Plan, configuration, fine_tuned, training_rows
from moored.selection import RULES

Row = dict[str, Any]
SEEDS = (0, 1, 2)
PLAN = Plan(pool=25, rank=16)


@dataclass(frozen=True)
class Arm:
    """A rule and its share; None is plain fine-tuning on the whole pool."""

    rule: str | None
    keep: float = 1.0

    @property
    def name(self) -> str:
        """As files and rows are called."""
        return "plain" if self.rule is None else f"{self.rule}-{self.keep:g}"

    def safeguards(self, seed: int) -> list[Row]:
        """The configuration's part."""
        return [] if self.rule is None else [{"name": "gradient_selection", **self.__dict__, "seed": seed}]


RATIOS = ("moderate", "length_matched_random", "random")
ARMS = [
    Arm(None),
    *(Arm(rule, 0.2) for rule in ("moderate", "length_matched_random", "random")),
    *(Arm(rule, 0.2) for rule in RULES if rule not in RATIOS),
    *(Arm(rule, keep) for keep in (0.12, 0.4) for rule in RATIOS),  # 3 and 10 of 25 rows
]


def grid(only: Sequence[str] | None, seeds: Sequence[int]) -> Iterator[tuple[Arm, int]]:
    """Arms seed by seed, so that every arm has one before any has two."""
    return ((arm, seed) for seed in seeds for arm in ARMS if only is None or arm.name in only)


def run_of(arm: Arm, seed: int, data: Path, plan: Plan) -> Run:
    """One arm under one seed."""
    return Run(
        name=f"{arm.name}-seed{seed}",
        about={"arm": arm.name, "seed": seed},
        make=partial(
            fine_tuned,
            {**configuration(plan, batch=5), "seed": seed, "safeguards": arm.safeguards(seed)},
            partial(training_rows, data, plan, seed),
        ),
    )


def main() -> None:
    """Makes what is missing of the grid and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/selection_trial"))
    parser.add_argument("--out", type=Path, default=Path("results/selection_trial"))
    parser.add_argument("--only", nargs="*", choices=[arm.name for arm in ARMS], help="arms; all by default")
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--learning-rate", type=float, default=Plan.learning_rate)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--threads", type=int, default=2, help="1 for two calls side by side")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    plan = Plan(pool=PLAN.pool, rank=PLAN.rank, learning_rate=options.learning_rate, steps=options.steps)
    measure = Measure(options.data, Asked())
    key = key_of(asdict(plan), configuration(plan, batch=5), measure.hashes())
    trial = Trial(out=options.out, work=options.run, plan=plan, measure=measure, key=key, threads=options.threads)
    trial.complete([run_of(arm, seed, options.data, plan) for arm, seed in grid(options.only, options.seeds)])
    trial.gather()
    write_table(options.out, [arm.name for arm in ARMS], key)


if __name__ == "__main__":
    main()
