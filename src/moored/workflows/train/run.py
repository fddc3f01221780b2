"""`moored train`: a TRL fine-tune with safeguards, from a configuration file to a folder with an adapter."""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from moored.errors import InputError, UserError
from moored.files import refuse_non_empty, write_json
from moored.huggingface.data import Supervision, drop_empty_rows, read_rows, supervise
from moored.huggingface.distributed.processes import is_main_process
from moored.huggingface.models import ModelSource, load_tokenizer
from moored.huggingface.safeguards.interface import is_on
from moored.huggingface.training import newest_complete
from moored.huggingface.training.arguments import sft_config
from moored.huggingface.training.build import make_trainer, prepare_start, set_template
from moored.huggingface.training.checkpoints import as_user_error
from moored.huggingface.training.progress import TrainingProgress
from moored.workflows.inputs.models import resolve_model
from moored.workflows.records.provenance import stamp, tokens_hash, weights_hash
from moored.workflows.records.resume import require_same_run
from moored.workflows.train.auto_strength import ShortRuns
from moored.workflows.train.config import DriftConfig, TrainConfig, read_config
from moored.workflows.train.drift import drift_probe, watch_drift
from moored.workflows.train.safeguards import Findings, read_safeguards, refuse_sharding, require_rows_for_auto

RECORD = "moored_run.json"


def train(
    config: Path, *, overrides: Sequence[str] = (), resume: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Fine-tunes a model as a configuration file says.

    The run's folder gets the adapter (or, with `lora: null`, the checkpoint), the tokenizer with its chat template,
    the checkpoints, and `moored_run.json`. Where the run starts from a base with an adapter, the new adapter is for
    that base and holds both.

    Args:
        config: a flat YAML file; see `TrainConfig` for our keys, every other one is a field of TRL's SFTConfig.
        overrides: `key=value` pairs that are laid over the file.
        resume: go on from the newest complete checkpoint of the folder; without one, start over. The settings must be
            those of the run, but for its length (its schedule is then that of the new length from here on) and for
            what is measured, logged and kept.
        console: where a progress bar is shown in place of the Trainer's own printing; None leaves that as it is, and
            shows on stderr what comes before the training.

    Returns:
        What is written to `moored_run.json`.

    Raises:
        UserError: whatever the user can put right.
    """
    started = time.perf_counter()
    settings = read_config(config, overrides)
    refuse_sharding(settings, str(config))
    resume = resume or _asks_to_resume(settings, str(config))
    arguments = sft_config(_for_trl(settings), str(config))
    out = Path(settings.output_dir)
    main_process = is_main_process()
    if main_process and not (resume and (out / RECORD).is_file()):
        _refuse_used(out)
    source = resolve_model(settings.model, None if settings.adapter is None else Path(settings.adapter))
    start = prepare_start(source, settings.lora, settings.quantize, settings.trl, str(config))
    safeguards = read_safeguards(settings, source, str(config))
    if settings.reference is not None:
        load_tokenizer(
            resolve_model(settings.reference)
        )  # also where nothing is compared with it, its name is recorded
    tokenizer = load_tokenizer(source)
    set_template(tokenizer, arguments)
    data = _data(settings, tokenizer, arguments)
    require_rows_for_auto(settings, len(data.train), str(config))
    record = _record(settings, source, data, safeguards)
    if resume:
        require_same_run(out, out / RECORD, record)
    told = (console or Console(stderr=True)) if main_process else None
    with as_user_error(out):
        findings = Findings(out, told)
        safeguards = findings.tokens(safeguards, source, tokenizer)

        def short_runs() -> ShortRuns:
            probe = drift_probe(settings.drift or DriftConfig(), tokenizer, settings.model)
            return ShortRuns(start, _for_trl(settings), tokenizer, data.train, probe, str(config))

        safeguards = findings.strengths(safeguards, settings, short_runs)
        trainer = make_trainer(start, arguments, tokenizer, data.train, data.evaluation, safeguards, str(config))
        drift = watch_drift(settings, trainer, tokenizer)
        if console is not None:
            TrainingProgress.take_over(trainer, console)
        if main_process:
            write_json(out / RECORD, record)
            findings.write()
        checkpoint = newest_complete(out) if resume else None
        if resume:
            whence = (
                "at the start: there is no complete checkpoint" if checkpoint is None else f"from {checkpoint.name}"
            )
            trainer.accelerator.print(f"Going on {whence}.")
        try:
            done = trainer.train(None if checkpoint is None else str(checkpoint))
        except UserError:
            if main_process and not resume and not trainer.state.global_step:
                # A run that took no step leaves nothing, so that its folder can be named again.
                findings.forget()
                (out / RECORD).unlink()
                if not any(out.iterdir()):
                    out.rmdir()
            raise
        _save(trainer, out)
        record |= {
            "finished": True,
            "seconds": round(time.perf_counter() - started, 1),
            "resumed_from": None if checkpoint is None else checkpoint.name,
            "steps": done.global_step,
            "train_loss": done.training_loss,
            "safeguards": trainer.safeguard_report(),
            "drift": None if drift is None else drift.summary(),
        }
        if main_process:
            write_json(out / RECORD, record)
    return record


def _for_trl(settings: TrainConfig) -> dict[str, Any]:
    """What TRL gets. Our labels are made already, and TRL refuses the switch for its own on such rows."""
    return {**settings.trl, "assistant_only_loss": False, "resume_from_checkpoint": None}


def _asks_to_resume(settings: TrainConfig, where: str) -> bool:
    stated = settings.trl.get("resume_from_checkpoint")
    if isinstance(stated, str):
        raise InputError(
            f"{where}: resume_from_checkpoint names a folder; set output_dir to the run's and use --resume."
        )
    return bool(stated)


def _refuse_used(out: Path) -> None:
    try:
        refuse_non_empty(out)
    except InputError as error:
        if (out / RECORD).is_file():
            raise InputError(f"{out} holds a run already; go on with it by --resume, or name another folder.") from None
        raise error


class _Data(NamedTuple):
    train: Any
    evaluation: Any
    described: dict[str, Any]


def _data(settings: TrainConfig, tokenizer: Any, arguments: Any) -> _Data:
    """Both datasets as token ids and labels, with the rows that have nothing to learn reported."""
    if settings.eval_dataset is None and arguments.eval_strategy != "no":
        raise InputError(f"eval_strategy is {arguments.eval_strategy.value}, but there is no eval_dataset; name one.")
    if settings.drift is not None and settings.drift.stop is not None and arguments.eval_strategy == "no":
        raise InputError("drift.stop acts at evaluations only; set eval_strategy and name an eval_dataset.")
    train = _tokens(settings, settings.dataset, settings.dataset_split, tokenizer, arguments)
    described = {"dataset": settings.dataset, "rows": len(train), "tokens_sha256": tokens_hash(train)}
    evaluation = None
    if settings.eval_dataset is not None:
        evaluation = _tokens(settings, settings.eval_dataset, settings.eval_split, tokenizer, arguments)
        described |= {"eval_dataset": settings.eval_dataset, "eval_rows": len(evaluation)}
    return _Data(train, evaluation, described)


def _tokens(settings: TrainConfig, name: str, split: str, tokenizer: Any, arguments: Any) -> Any:
    how = Supervision(
        tokenizer=tokenizer,
        render=settings.render,
        text_field=arguments.dataset_text_field,
        completion_only=settings.trl.get("completion_only_loss") is not False,
        assistant_only=settings.trl.get("assistant_only_loss") is not False,
    )
    rows = supervise(read_rows(name, split=split), how, where=name, num_proc=arguments.dataset_num_proc)
    # Only these two ways of packing split a long row instead of cutting it.
    splits = arguments.packing and arguments.packing_strategy != "bfd"
    return drop_empty_rows(
        rows,
        where=name,
        max_length=None if splits else arguments.max_length,
        keep_end=arguments.truncation_mode == "keep_end",
        on_empty=settings.on_empty_rows,
    )


def _record(settings: TrainConfig, source: ModelSource, data: _Data, safeguards: Sequence[Any]) -> dict[str, Any]:
    stated = {key: value for key, value in asdict(settings).items() if key != "trl"} | dict(settings.trl)
    is_start = settings.reference is None
    return {
        **stamp("train"),
        "finished": False,
        "config": stated,
        "model": {"name": settings.model, "adapter": settings.adapter, "weights_sha256": weights_hash(source)},
        "reference": {
            "name": settings.model if is_start else settings.reference,
            "adapter": settings.adapter if is_start else None,
            "is_start": is_start,
        },
        "output": "checkpoint" if settings.lora is None else "adapter",
        "data": data.described,
        "safeguards": [{"name": each.name, "on": is_on(each)} for each in safeguards],
    }


def _save(trainer: Any, out: Path) -> None:
    """The result beside the checkpoints; each file appears whole, under its final name."""
    scratch = Path(tempfile.mkdtemp(dir=out, prefix=".final.")) if trainer.args.should_save else out / ".final"
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
            # safetensors keeps its files for their owner alone; the rest of the folder is not so shy.
            file.chmod(0o644)
            file.replace(out / file.name)
    finally:
        if trainer.args.should_save:
            shutil.rmtree(scratch)
