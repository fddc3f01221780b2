"""`moored recover`."""

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import Console, quiet_libraries
from moored.errors import InputError


def recover_command(
    model: Annotated[str, Argument(help="The fine-tuned checkpoint, or the base of the adapter.")],
    out: Annotated[Path, Option(help="Where the repaired adapter or checkpoint goes; must be empty or absent.")],
    adapter: Annotated[Path | None, Option(help="The PEFT folder to repair; only its factors move.")] = None,
    method: Annotated[
        Literal["one_shot", "safe_lora", "linear_pull"],
        Option(help="A safety example; projection onto alignment's direction; or a part of the way back."),
    ] = "one_shot",
    preset: Annotated[
        str | None,
        Option(help="`auto` where the aligned model is known, `published` else; or `adapter`.", show_default=False),
    ] = None,
    prompt: Annotated[str | None, Option(help="The harmful request of the safety example.", show_default=False)] = None,
    refusal: Annotated[
        str | None, Option(help="The refusal to learn; of `auto` the aligned model's own.", show_default=False)
    ] = None,
    learning_rate: Annotated[float | None, Option(help="Of AdamW; else the preset's.", show_default=False)] = None,
    steps: Annotated[int | None, Option(help="At most; else the preset's.", show_default=False)] = None,
    stop_at: Annotated[float | None, Option(help="Loss at which it counts as learned.", show_default=False)] = None,
    against: Annotated[
        str | None,
        Option(
            help="The aligned model, to ask, to choose by or to go back to; else what the adapter lies over.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[str | None, Option(help="The checkpoint before alignment (safe_lora).", show_default=False)] = None,
    choose_from: Annotated[
        str | None, Option(help="A pool of examples to choose from: a file or `embedded`.", show_default=False)
    ] = None,
    choose_by: Annotated[
        Literal["halving", "bilevel"] | None,
        Option(help="Short repairs, the worst leaving (default); or the paper's bi-level way.", show_default=False),
    ] = None,
    task: Annotated[
        str | None, Option(help="Prompts on which the choice keeps the model as it is.", show_default=False)
    ] = None,
    threshold: Annotated[
        float | None, Option(help="Cosine below which safe_lora projects; 0.35 by default.", show_default=False)
    ] = None,
    form: Annotated[str | None, Option(help="Of safe_lora: `published` or `projector`.", show_default=False)] = None,
    rank: Annotated[int | None, Option(help="Directions of that projector.", show_default=False)] = None,
    share: Annotated[
        float | None, Option(help="Part of the way that linear_pull goes; 0.5 by default.", show_default=False)
    ] = None,
    overwrite: Annotated[bool, Option(help="Replace what is in the output folder.")] = False,
) -> None:
    """Repairs a fine-tuned adapter or checkpoint: with one safety example, or back towards the aligned weights."""
    stay_offline_unless_named(model, against, base, choose_from, task)
    quiet_libraries()
    from moored.workflows.inputs.models import resolve_model
    from moored.workflows.recover.run import fitting_preset, recover

    settings = {
        "prompt": prompt,
        "refusal": refusal,
        "learning_rate": learning_rate,
        "steps": steps,
        "stop_at": stop_at,
        "threshold": threshold,
        "form": form,
        "rank": rank,
        "share": share,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if preset is not None and method != "one_shot":
        raise InputError(f"--preset is no setting of --method {method}; leave it out.")
    chosen = _method(method, preset or fitting_preset(resolve_model(model, adapter), adapter, against), given)
    record = recover(
        model,
        out=out,
        adapter=adapter,
        method=chosen,
        against=against,
        base=base,
        pool=_pool(choose_from, choose_by, task),
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    _print(Console(), record, model, adapter, out)


def _method(name: str, preset: str, given: dict[str, Any]) -> Any:
    """The repair with the settings that were given, each of which it must know."""
    from moored.recovery import REPAIRS, OneShot

    known = {each.name for each in fields(REPAIRS[name])}
    foreign = sorted(given.keys() - known)
    if foreign:
        raise InputError(f"--{foreign[0].replace('_', '-')} is no setting of --method {name}; leave it out.")
    return OneShot.preset(preset, **given) if name == "one_shot" else REPAIRS[name](**given)


def _pool(examples: str | None, by: Any, task: str | None) -> Any:
    from moored.workflows.recover.run import Pool

    given = {name: value for name, value in {"by": by, "task": task}.items() if value is not None}
    if examples is None and given:
        raise InputError("--choose-by and --task go with --choose-from alone; name a pool, or leave them out.")
    return None if examples is None else Pool(examples=examples, **given)


def _print(console: Console, record: dict[str, Any], model: str, adapter: Path | None, out: Path) -> None:
    if "updates" in record:
        console.print(
            _of_updates(record["method"]["name"], record["updates"]), highlight=False, markup=False, soft_wrap=True
        )
    elif not record["steps"]["loss"]:
        console.print(f"Nothing to do: {out} is a copy, bit for bit.", markup=False, soft_wrap=True)
        return
    else:
        moved = "weights" if record["adapter"] is None else "adapter's factors"
        console.print(_of_steps(record["steps"], moved), highlight=False, markup=False, soft_wrap=True)
    if record["choice"] is not None:
        console.print(f"Example chosen: {record['method']['prompt']}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Repaired: {out}", highlight=False, markup=False, soft_wrap=True)
    damaged = [model] if adapter is None else [model, "--against-adapter", str(adapter)]
    repaired = [str(out)] if adapter is None else [model, "--adapter", str(out)]
    measure = shlex.join(["moored", "measure", *repaired, "--against", *damaged, "--out", "measured"])
    console.print(f"What it brought and cost: {measure}", highlight=False, markup=False, soft_wrap=True)


def _of_steps(steps: dict[str, Any], moved: str) -> str:
    if not steps["taken"]:
        return "The example is learned already: it is a copy."
    return (
        f"{steps['taken']} steps: loss of the safety example {steps['loss'][0]:.3f} → {steps['loss_as_written']:.3f}, "
        f"the {moved} moved by {100 * steps['moved']:.2g} % of their norm."
    )


def _of_updates(name: str, updates: dict[str, Any]) -> str:
    return (
        f"{name} changed {updates['changed']} of {updates['of']} updated weights; {updates['kept']:.0%} of the "
        "update's norm is left."
    )
