"""`moored recover`."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from moored.cli._command import command
from moored.cli._options import Console, quiet_libraries
from moored.terminal import say
from moored.workflows.recover.settings import RecoverSettings

if TYPE_CHECKING:
    from moored.report.reading.recover import RecoverReport, StepsRecord, UpdatesRecord


def recover(settings: RecoverSettings) -> None:
    """Repairs a fine-tuned adapter or checkpoint, with one safety example or back towards the aligned weights."""
    quiet_libraries()
    from moored.workflows.recover import run

    report = run.recover(settings, console=Console(stderr=True))
    console = Console()
    for sentence in _sentences(report, settings):
        say(console, sentence)


recover_command = command(RecoverSettings, recover)


def _sentences(report: "RecoverReport", settings: RecoverSettings) -> Iterator[str]:
    if report.steps is None and report.updates is None:
        yield f"Nothing to do: {settings.out} is a copy, bit for bit."
        return
    if report.steps is not None:
        yield _of_steps(report.steps, "adapter's factors" if report.output == "adapter" else "weights")
    if report.updates is not None:
        yield _of_updates(report.method["name"], report.updates)
    if report.choice is not None:
        yield f"Example chosen: {report.method['prompt']}"
    yield f"Repaired: {settings.out}"
    yield f"What it brought: {_measure(settings)}"
    if settings.against is not None:
        yield f"What it cost: {_measure(settings, aligned=settings.against)}"


def _measure(settings: RecoverSettings, aligned: str | None = None) -> str:
    """Returns the command that compares the repaired model with the damaged one, or with the aligned one."""
    reference, repaired, out = [settings.model], [str(settings.out)], "repaired-against-damaged"
    if settings.adapter is not None:
        reference = [settings.model, "--against-adapter", str(settings.adapter)]
        repaired = [settings.model, "--adapter", str(settings.out)]
    if aligned is not None:
        reference, out = [aligned], "repaired-against-aligned"
    return shlex.join(["moored", "measure", *repaired, "--against", *reference, "--out", out])


def _of_steps(steps: "StepsRecord", moved: str) -> str:
    if not steps.taken:
        return "The model has learned the example already, so the result is a copy."
    return (
        f"{steps.taken} steps: loss of the safety example {steps.loss[0]:.3f} → {steps.loss_as_written:.3f}; "
        f"the {moved} moved by {100 * steps.moved:.2g} % of their norm."
    )


def _of_updates(name: str, updates: "UpdatesRecord") -> str:
    return f"{name} changed {updates.changed} of {updates.of} updates; {updates.kept:.0%} of their norm is left."
