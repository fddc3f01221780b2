"""`moored recover`: repairs an adapter or a full checkpoint, with one safety example or by a formula."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from moored.files import whole_folder
from moored.huggingface.models import copy_companions
from moored.recovery import Repair
from moored.report.reading.recover import ChoiceRecord, RecoverReport
from moored.verbs import verb
from moored.workflows.records.provenance import model_record, origin
from moored.workflows.recover.by_example import repair_by_example
from moored.workflows.recover.by_formula import repair_by_formula
from moored.workflows.recover.plan import Outcome, Plan, prepare
from moored.workflows.recover.settings import RecoverSettings

_BY: Mapping[str, Callable[[Plan[Any], Path], Outcome]] = {"example": repair_by_example, "formula": repair_by_formula}


@verb(RecoverSettings)
def recover(settings: RecoverSettings, *, console: Console | None = None) -> RecoverReport:
    """Repairs a fine-tuned model: adapter in, adapter out; a full checkpoint comes out as a full checkpoint.

    Returns:
        What is written to `moored_recovery.json`; the ranking of a choice is written to `moored_example_choice.json`.

    Raises:
        UserError: Something the user can put right; nothing is written then.
    """
    return _run(settings, None, console)


def repair(
    method: Repair,
    model: str,
    *,
    out: Path,
    adapter: Path | None = None,
    against: str | None = None,
    base: str | None = None,
    choose_from: str | None = None,
    choose_by: Literal["halving", "bilevel"] | None = None,
    task: str | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> RecoverReport:
    """Repairs a fine-tuned model as `recover` does, by a method object, which may have settings of any kind.

    Args:
        method: A method such as `OneShot(steps=5)` or `SafeLora(threshold=0.5)`.
        model: The fine-tuned checkpoint or adapter folder, or the base model of `adapter`.
        out: The folder for the repaired adapter or checkpoint.
        adapter: The PEFT adapter folder to repair.
        against: The aligned model (default: the model the adapter was trained on).
        base: The checkpoint before alignment, for a method that needs it.
        choose_from: The examples of which the best replaces the method's own; experimental.
        choose_by: How the example is chosen.
        task: The prompts on which the chosen example should change the model least.
        overwrite: Whether an earlier repair in `out` may be replaced.
        console: A rich console on which progress is shown; None is silent.

    Raises:
        UserError: Something the user can put right; nothing is written then.
    """
    settings = RecoverSettings(
        model=model,
        out=out,
        adapter=adapter,
        against=against,
        base=base,
        choose_from=choose_from,
        choose_by=choose_by,
        task=task,
        overwrite=overwrite,
    )
    return _run(settings, method, console)


def _run(settings: RecoverSettings, method: Repair | None, console: Console | None) -> RecoverReport:
    started = time.perf_counter()
    plan = prepare(settings, method, console)
    model = model_record(plan.tuned)
    with whole_folder(settings.out, overwrite=settings.overwrite, own=RecoverReport.own_output()) as folder:
        outcome = _write_repaired(plan, folder)
        report = RecoverReport(
            **origin(),
            seconds=round(time.perf_counter() - started, 1),
            model=model,
            output="checkpoint" if plan.tuned.adapter is None else "adapter",
            method={"name": outcome.method.name, **vars(outcome.method)},
            against=None if plan.aligned is None else plan.aligned.describe(),
            base=None if plan.base is None else plan.base.describe(),
            choice=ChoiceRecord(**asdict(plan.pool)) if plan.pool is not None and outcome.ranking else None,
            steps=outcome.steps,
            updates=outcome.updates,
            ranking=outcome.ranking,
        )
        report.write_beside(folder)
        report = replace(report, files=sorted(file.name for file in folder.iterdir()))
        report.write(folder)
    return report


def _write_repaired(plan: Plan[Any], folder: Path) -> Outcome:
    """Writes the repaired adapter or checkpoint; a method that is off copies every file bit for bit."""
    if plan.method.off:
        copy_companions(plan.start, folder, weights=True)
        return Outcome(method=plan.method)
    return _BY[plan.method.kind](plan, folder)
