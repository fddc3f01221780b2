"""`moored recover`: repairs an adapter or a full checkpoint with one safety example."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moored.embedded.model import BASE
from moored.errors import InputError
from moored.files import require_place, whole_folder, write_json
from moored.huggingface.models import ModelSource, copy_companions, require_kept
from moored.outputs import OwnOutput, keep_inputs
from moored.recovery import OneShot, UpdateRepair
from moored.workflows.inputs.example_pool import Pool, with_own_refusal
from moored.workflows.inputs.models import base_folder, base_name, reference_of, resolve_model
from moored.workflows.records.provenance import stamp, weights_hash
from moored.workflows.recover.by_example import repair_by_example
from moored.workflows.recover.by_formula import Lineage, repair_updates
from moored.workflows.recover.example_choice import choose_example

RECORD = "moored_recovery.json"
RANKING = "moored_example_choice.json"
_OWN = OwnOutput(record=RECORD, kind="recovery")


def recover(
    model: str,
    *,
    out: Path,
    adapter: Path | None = None,
    method: OneShot | UpdateRepair | None = None,
    against: str | None = None,
    base: str | None = None,
    pool: Pool | None = None,
    dtype: torch.dtype = torch.float32,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Repairs a fine-tuned model: adapter in, adapter out; a full checkpoint comes out as a full checkpoint.

    Args:
        model: the fine-tuned checkpoint, or the base of `adapter`; it is never written to.
        out: the folder for the repaired adapter or checkpoint; must be empty or absent unless `overwrite`.
        adapter: the PEFT folder to repair; its factors alone move.
        method: the repair; by default one example, with the preset `auto` where the aligned model is known, and
            `published` for a checkpoint without `against`.
        against: the aligned model, for a repair by a formula, for the choice, and for a refusal in its own words; by
            default what the adapter lies over.
        base: the checkpoint that it was aligned from, for a repair that looks at that direction.
        pool: examples of which the best takes the place of the method's own.
        dtype: precision while steps are taken.
        overwrite: replace an earlier repair in `out`.
        console: where progress is shown; None is silent.

    Returns:
        What is written to `moored_recovery.json`: method, hashes and, under `steps`, loss before and after each step
        and as written (in the files' precision), and distance moved; of a repair by a formula, under `updates`, what
        became of each weight; under `files`, the names of what was written beside it. The ranking of a pool is written
        to `moored_example_choice.json`.

    Raises:
        UserError: whatever the user can put right; nothing is written then.
    """
    require_place(out, overwrite=overwrite, own=_OWN)
    source = resolve_model(model, adapter)
    keep_inputs(out, source.path, source.adapter, against, base, *([] if pool is None else (pool.examples, pool.task)))
    if source.adapter is None and not Path(source.path).is_dir():
        raise InputError(f"{model} is no local folder; download the checkpoint first, or repair an adapter over it.")
    method = method or OneShot.preset(fitting_preset(source, adapter, against))
    _refuse_idle(method, against, base, pool)
    aligned = None if method.off else _aligned(source, adapter, method, against, pool)
    lineage = None if aligned is None or isinstance(method, OneShot) else _lineage(source, aligned, method, base)
    if aligned is not None:
        keep_inputs(out, aligned.path, aligned.adapter)  # What an adapter that was named lies over.
    if source.adapter is None and isinstance(method, OneShot) and not method.off:
        require_kept(source.path)
    ranking: list[dict[str, Any]] = []
    if pool is not None and aligned is not None and isinstance(method, OneShot):
        ranking = choose_example(source, aligned, pool, method, dtype=dtype, console=console)
        method = replace(method, prompt=ranking[0]["prompt"], refusal=ranking[0]["refusal"])
    elif aligned is not None and isinstance(method, OneShot):
        method = with_own_refusal(method, aligned, source)
    record = _record(source, method, aligned, lineage, pool if ranking else None)
    with whole_folder(out, overwrite=overwrite, own=_OWN) as folder:
        record |= _repair_into(folder, source, method, lineage, dtype)
        if ranking:
            write_json(folder / RANKING, ranking)
        record["files"] = sorted(each.name for each in folder.iterdir())
        write_json(folder / RECORD, record)
    return record


def fitting_preset(source: ModelSource, adapter: Path | None, against: str | None) -> str:
    """`auto` where it is known which model to ask for its own refusal, else `published`."""
    return "published" if reference_of(source, adapter, against) is None else "auto"


def _refuse_idle(method: OneShot | UpdateRepair, against: str | None, base: str | None, pool: Pool | None) -> None:
    """Nothing that was asked for may be without effect."""
    by_example = isinstance(method, OneShot)
    if pool is not None and not by_example:
        raise InputError(f"{method.name} repairs without an example; leave --choose-from out.")
    if against is not None and by_example and pool is None and method.refusal is not None:
        raise InputError(
            f"{method.name} looks at no aligned model unless it chooses its example or learns that model's own "
            "refusal; leave --against out."
        )
    if base is not None and not method.needs_base:
        raise InputError(f"{method.name} looks at no base; leave --base out.")


def _aligned(
    source: ModelSource, adapter: Path | None, method: OneShot | UpdateRepair, against: str | None, pool: Pool | None
) -> ModelSource | None:
    """The model to go back to, where the repair looks at one."""
    if isinstance(method, OneShot) and pool is None and method.refusal is not None:
        return None
    aligned = reference_of(source, adapter, against)
    if aligned is None:
        raise InputError(f"Name the aligned model that {source.describe()} was tuned from with --against.")
    if against is None and aligned.name == BASE:
        raise InputError(f"{source.describe()} lies over {BASE}, which is not aligned; name the model with --against.")
    return aligned


def _lineage(source: ModelSource, aligned: ModelSource, method: UpdateRepair, base: str | None) -> Lineage:
    """The models between which updates are taken, as far as they were named or are known."""
    named = base_name(aligned, base) if method.needs_base else None
    if method.needs_base and named is None:
        raise InputError(f"{method.name} needs the checkpoint that was aligned, before alignment; name it with --base.")
    start = None if named is None else ModelSource(str(base_folder(named)), name=named)
    return Lineage(tuned=source, aligned=aligned, base=start)


def _record(
    source: ModelSource,
    method: OneShot | UpdateRepair,
    aligned: ModelSource | None,
    lineage: Lineage | None,
    pool: Pool | None,
) -> dict[str, Any]:
    return {
        **stamp("recovery"),
        "model": source.path,
        "adapter": None if source.adapter is None else str(source.adapter),
        "weights_sha256": weights_hash(source),
        "against": None if aligned is None else aligned.describe(),
        "base": None if lineage is None or lineage.base is None else lineage.base.describe(),
        "choice": None if pool is None else asdict(pool),
        "method": _described(method),
    }


def _described(method: OneShot | UpdateRepair) -> dict[str, Any]:
    settings = {key: value for key, value in vars(method).items() if key not in ("name", "needs_base")}
    return {"name": method.name, **settings}


def _repair_into(
    folder: Path, source: ModelSource, method: OneShot | UpdateRepair, lineage: Lineage | None, dtype: torch.dtype
) -> dict[str, Any]:
    start = Path(source.path) if source.adapter is None else source.adapter
    if method.off:
        # The null effect is exact: nothing is loaded, nothing is cast.
        copy_companions(start, folder, weights=True)
        return {"steps": {"taken": 0, "loss": []}}
    if isinstance(method, OneShot):
        return {"steps": repair_by_example(folder, source, method, dtype)}
    assert lineage is not None
    return {"updates": repair_updates(folder, lineage, method)}
