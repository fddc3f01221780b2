"""`moored train`: a TRL fine-tune with safeguards, from a configuration file to a folder with an adapter.

A run has four steps: `prepare` checks and reads everything, `find` finds the tokens and strengths that the file leaves
open, `_fit` trains, and `_record` saves the result and what came of it.
"""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from moored.errors import UserError, blaming
from moored.files import sole_writer, write_json
from moored.files.leftovers import MARK
from moored.huggingface.distributed.processes import is_main_process
from moored.huggingface.training import newest_complete
from moored.huggingface.training.build import make_trainer
from moored.huggingface.training.checkpoints import as_user_error
from moored.huggingface.training.progress import TrainingProgress
from moored.report.reading.train import DriftRecord, TrainReport
from moored.terminal import say
from moored.verbs import verb
from moored.workflows.records.resume import finished_run
from moored.workflows.train.auto_strength import ShortRuns
from moored.workflows.train.config import DriftConfig
from moored.workflows.train.drift import drift_probe, watch_drift
from moored.workflows.train.plan import Plan, for_trl, prepare, require_free
from moored.workflows.train.safeguards import Findings
from moored.workflows.train.settings import TrainSettings


@verb(TrainSettings)
def train(settings: TrainSettings, *, console: Console | None = None) -> TrainReport:
    """Fine-tunes a model as a training file says.

    The run's folder gets the adapter (or, with `lora: null`, the checkpoint), the tokenizer with its chat template,
    the checkpoints, and `moored_run.json`. Where the run starts from a base with an adapter, the new adapter is for
    that base and holds both. A run that fails after its first step leaves no adapter, and says why under `error` in its
    record. A resumed run must have the settings of the one that it continues, except for its length and for what is
    measured, logged and kept; one that has ended already, with the same length, stays as it is.

    Returns:
        What is written to `moored_run.json`.

    Raises:
        UserError: Something the user can put right, a diverged training included; there is no result then.
    """
    started = time.perf_counter()
    plan = prepare(settings)
    over = finished_run(plan.out, plan.report) if plan.resume else None
    if over is not None:
        if console is not None and is_main_process():
            say(console, f"{plan.out} is finished; raise max_steps or num_train_epochs to go on from there.")
        return over
    with as_user_error(plan.out), _alone(plan):
        findings = Findings(plan.out, (console or Console(stderr=True)) if is_main_process() else None)
        plan = find(plan, findings)
        fitted = _fit(plan, findings, console)
        return _record(plan, fitted, seconds=time.perf_counter() - started)


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Claims the run's folder, which another run may have filled since it was looked at."""
    if not is_main_process():
        yield
        return
    with sole_writer(plan.out):
        require_free(plan.out, resume=plan.resume)
        yield


def find(plan: Plan, findings: Findings) -> Plan:
    """Finds the safety tokens and the strengths that the training file leaves to be found.

    Raises:
        UserError: There is nothing to find them by.
    """

    def short_runs() -> ShortRuns:
        probe = drift_probe(plan.config.drift or DriftConfig(), plan.tokenizer, plan.config.model)
        return ShortRuns(plan.start, for_trl(plan.config), plan.tokenizer, plan.train_rows, probe)

    safeguards = findings.tokens(plan.safeguards, plan.start.source, plan.tokenizer)
    with blaming(plan.file):
        safeguards = findings.strengths(safeguards, plan.config, short_runs)
    return replace(plan, safeguards=safeguards)


class _Fitted(NamedTuple):
    """A trainer after its last step."""

    trainer: Any
    output: Any
    drift: Any
    resumed_from: str | None


def _fit(plan: Plan, findings: Findings, console: Console | None) -> _Fitted:
    with blaming(plan.file):
        trainer = make_trainer(
            plan.start, plan.arguments, plan.tokenizer, plan.train_rows, plan.eval_rows, plan.safeguards
        )
    drift = watch_drift(plan.config, trainer, plan.tokenizer)
    if console is not None:
        TrainingProgress.take_over(trainer, console)
    if is_main_process():
        write_json(plan.out / TrainReport.file, plan.report.to_dict())
        findings.write()
    checkpoint = newest_complete(plan.out) if plan.resume else None
    if plan.resume:
        where = "no complete checkpoint found; starting over" if checkpoint is None else f"from {checkpoint.name}"
        trainer.accelerator.print(f"Resuming: {where}.")
    with _recording_failure(plan, findings, trainer), as_user_error(plan.out):
        output = trainer.train(None if checkpoint is None else str(checkpoint))
    return _Fitted(trainer, output, drift, None if checkpoint is None else checkpoint.name)


@contextmanager
def _recording_failure(plan: Plan, findings: Findings, trainer: Any) -> Iterator[None]:
    """Records why a run failed; one that took no step leaves nothing instead, so that its folder can be named again."""
    try:
        yield
    except UserError as error:
        if is_main_process() and not plan.resume and not trainer.state.global_step:
            findings.forget()
            (plan.out / TrainReport.file).unlink()
            if not any(plan.out.iterdir()):
                plan.out.rmdir()
        elif is_main_process():
            write_json(plan.out / TrainReport.file, replace(plan.report, error=str(error)).to_dict())
        raise


def _record(plan: Plan, fitted: _Fitted, *, seconds: float) -> TrainReport:
    _save(fitted.trainer, plan.out)
    report = replace(
        plan.report,
        finished=True,
        seconds=round(seconds, 1),
        resumed_from=fitted.resumed_from,
        steps=fitted.output.global_step,
        train_loss=fitted.output.training_loss,
        safeguards=fitted.trainer.safeguard_report(),
        drift=None if fitted.drift is None else DriftRecord(**vars(fitted.drift.summary())),
    )
    if is_main_process():
        write_json(plan.out / TrainReport.file, report.to_dict())
    return report


def _save(trainer: Any, out: Path) -> None:
    """Saves the result beside the checkpoints; each file appears whole, under its final name."""
    scratch = Path(tempfile.mkdtemp(dir=out, prefix=f".final.{MARK}")) if trainer.args.should_save else out / ".final"
    try:
        result = scratch / "trained"
        trainer.save_model(str(result))
        if not trainer.args.should_save:
            return
        # A pickle of the arguments, which moored_run.json records as text; and PEFT's empty card, which names this
        # machine's path of the base and would take the place of TRL's.
        for needless in ("training_args.bin", "README.md"):
            (result / needless).unlink(missing_ok=True)
        for file in result.iterdir():
            # safetensors makes its files readable for their owner alone, unlike the rest of the folder.
            file.chmod(0o644)
            file.replace(out / file.name)
    finally:
        if trainer.args.should_save:
            shutil.rmtree(scratch)
