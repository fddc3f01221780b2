"""`moored train`."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from moored.cli._network import stay_offline_unless_configured
from moored.cli._options import Console, quiet_libraries


def train_command(
    config: Annotated[Path, Argument(help="A flat YAML file: our keys beside any field of TRL's SFTConfig.")],
    overrides: Annotated[
        list[str] | None, Option("--set", help="key=value laid over the file, e.g. `learning_rate=1e-4`, `lora.r=8`.")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Go on from the newest complete checkpoint.")] = False,
) -> None:
    """A TRL fine-tune with safeguards; `accelerate launch` runs it on many devices."""
    stay_offline_unless_configured(config, overrides or [])
    quiet_libraries()
    from moored.workflows.train.run import train

    _print(train(config, overrides=overrides or [], resume=resume))


def _print(record: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    out = record["config"]["output_dir"]
    console.print(f"{record['steps']} steps, mean loss {record['train_loss']:.3f}; the {record['output']} is in {out}")
    drift = record["drift"]
    if drift is not None:
        before, after = (drift[when].get("refusal_log_odds", float("nan")) for when in ("start", "end"))
        console.print(f"Refusal log-odds: {before:.2f} before, {after:.2f} after")
    reference = record["reference"]
    adapter = f" --against-adapter {reference['adapter']}" if reference["adapter"] else ""
    console.print(f"Next: moored measure {out} --against {reference['name']}{adapter} --out {out}-report", markup=False)
