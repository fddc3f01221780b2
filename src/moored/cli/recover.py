"""`moored recover`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from moored.cli._options import Console, quiet_libraries


def recover_command(
    model: Annotated[str, Argument(help="The fine-tuned checkpoint, or the base of the adapter.")],
    out: Annotated[Path, Option(help="Where the repaired adapter or checkpoint goes; must be empty or absent.")],
    adapter: Annotated[Path | None, Option(help="The PEFT folder to repair; only its factors move.")] = None,
    preset: Annotated[
        str | None,
        Option(help="`published` (full checkpoints) or `adapter`; by default what fits.", show_default=False),
    ] = None,
    prompt: Annotated[str | None, Option(help="The harmful request of the safety example.", show_default=False)] = None,
    refusal: Annotated[
        str | None, Option(help="The refusal to learn, best in the model's own words.", show_default=False)
    ] = None,
    learning_rate: Annotated[float | None, Option(help="Of AdamW; else the preset's.", show_default=False)] = None,
    steps: Annotated[int | None, Option(help="At most; else the preset's.", show_default=False)] = None,
    stop_at: Annotated[float | None, Option(help="Loss at which it counts as learned.", show_default=False)] = None,
    overwrite: Annotated[bool, Option(help="Replace what is in the output folder.")] = False,
) -> None:
    """Repairs a fine-tuned adapter or checkpoint with one safety example."""
    quiet_libraries()
    from moored.recovery import OneShot
    from moored.workflows.recover import recover

    given = {
        "prompt": prompt,
        "refusal": refusal,
        "learning_rate": learning_rate,
        "steps": steps,
        "stop_at": stop_at,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    chosen = preset or (
        "adapter" if adapter is not None or (Path(model) / "adapter_config.json").is_file() else "published"
    )
    method = OneShot.preset(chosen, **changes)  # pyright: ignore[reportArgumentType]
    record = recover(model, out=out, adapter=adapter, method=method, overwrite=overwrite)
    _print(Console(), record, model, adapter, out)


def _print(console: Console, record: dict, model: str, adapter: Path | None, out: Path) -> None:
    losses = record["steps"]["loss"]
    if not losses:
        console.print(f"0 steps: {out} is a copy, bit for bit.", soft_wrap=True)
        return
    console.print(
        f"{record['steps']['taken']} steps: loss of the safety example {losses[0]:.3f} → "
        f"{record['steps']['loss_as_written']:.3f}, "
        f"weights moved by {record['steps']['moved']:.2%}.",
        highlight=False,
    )
    console.print(f"Repaired: {out}", highlight=False, soft_wrap=True)
    measured = f"{model} --adapter {out}" if adapter is not None else str(out)
    console.print(f"Next: moored measure {measured} --out measured", highlight=False, soft_wrap=True)
