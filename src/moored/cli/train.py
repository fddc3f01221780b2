"""`moored train`."""

import shlex

from moored.cli._command import command
from moored.cli._network import stay_offline_unless_configured
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.train.settings import TrainSettings


def train(settings: TrainSettings) -> None:
    """Fine-tunes with TRL and safeguards; start it with `accelerate launch` to run on several devices."""
    quiet_libraries()
    from moored.workflows.train import run

    report = run.train(settings)
    console = Console()
    out = report.config["output_dir"]
    say(console, f"{report.steps} steps, mean loss {report.train_loss:.3f}; the {report.output} is in {out}.")
    if report.drift is not None:
        before, after = (at.get("refusal_log_odds", float("nan")) for at in (report.drift.start, report.drift.end))
        say(console, f"Refusal log-odds: {before:.2f} before, {after:.2f} after.")
    reference = report.reference
    adapter = ["--against-adapter", reference.adapter] if reference.adapter else []
    measure = ["moored", "measure", out, "--against", reference.name, *adapter, "--out", f"{out}-report"]
    say(console, f"Next: {shlex.join(measure)}")


train_command = command(
    TrainSettings,
    train,
    network=lambda settings: stay_offline_unless_configured(settings.config, settings.overrides),
)
