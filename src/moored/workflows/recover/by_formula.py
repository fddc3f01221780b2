"""Repair by a formula on each weight's update: read from files and written as the files were, without a model."""

from pathlib import Path

from moored.recovery import UpdateRepair
from moored.workflows.recover.formula_on_adapter import repair_adapter
from moored.workflows.recover.formula_on_checkpoint import repair_checkpoint
from moored.workflows.recover.plan import Outcome, Plan
from moored.workflows.recover.updates import Lineage, UpdateLog


def repair_by_formula(plan: Plan[UpdateRepair], folder: Path) -> Outcome:
    """Writes the repaired model to a folder: an adapter as an adapter in fp32, a checkpoint in its own precisions.

    Raises:
        InactiveError: The fine-tuned model is the aligned one, or no weight was changed.
        ModelError: The models do not belong together, or an adapter is not a plain LoRA.
    """
    assert plan.aligned is not None
    lineage = Lineage(tuned=plan.tuned, aligned=plan.aligned, base=plan.base)
    log = UpdateLog(plan.method)
    if plan.tuned.adapter is None:
        repair_checkpoint(folder, lineage, log, only_matrices=plan.method.needs_base)
    else:
        repair_adapter(folder, lineage, log)
    log.require_change(lineage)
    return Outcome(method=plan.method, updates=log.record())
