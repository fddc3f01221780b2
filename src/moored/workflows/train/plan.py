"""A run before it begins: every setting checked, every name resolved, the rows as token ids and labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from moored.errors import InputError, blaming
from moored.files import refuse_non_empty, sole_writer
from moored.huggingface.data import (
    Supervision,
    drop_empty_rows,
    largest_token,
    open_rows,
    prepare_rows,
    template_date,
    tokens_hash,
)
from moored.huggingface.distributed.processes import is_main_process
from moored.huggingface.models import ModelSource, load_tokenizer, require_tokens
from moored.huggingface.safeguards.interface import is_on
from moored.huggingface.training.arguments import sft_config
from moored.huggingface.training.build import Start, prepare_start, set_template
from moored.report.reading.train import DataRecord, ReferenceRecord, StartRecord, TrainReport
from moored.workflows.inputs.models import resolve_model
from moored.workflows.records.provenance import origin, weights_hash
from moored.workflows.records.resume import require_same_run
from moored.workflows.train.config import TrainConfig, read_config
from moored.workflows.train.safeguards import read_safeguards, refuse_sharding, require_rows_for_auto
from moored.workflows.train.settings import TrainSettings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that can begin."""

    file: Path
    """The training file, as errors name it."""
    config: TrainConfig
    arguments: Any
    """TRL's SFTConfig."""
    resume: bool
    start: Start
    tokenizer: Any
    train_rows: Any
    eval_rows: Any
    safeguards: Sequence[Any]
    report: TrainReport
    """The record of the run, not finished yet."""

    @property
    def out(self) -> Path:
        """The run's folder."""
        return Path(self.config.output_dir)


def prepare(settings: TrainSettings) -> Plan:
    """Checks a training file and reads its data; nothing is written and no weights are loaded.

    Raises:
        UserError: Something the user can put right.
    """
    config = read_config(settings.config, settings.overrides)
    with blaming(settings.config):
        refuse_sharding(config)
        resume = settings.resume or _asks_to_resume(config)
        arguments = sft_config(for_trl(config))
    if is_main_process():
        with sole_writer(config.output_dir):
            require_free(Path(config.output_dir), resume=resume)
    source = resolve_model(config.model, None if config.adapter is None else Path(config.adapter))
    with blaming(settings.config):
        start = prepare_start(source, config.lora, config.quantize, config.trl)
        safeguards = read_safeguards(config, source)
    if config.reference is not None:
        load_tokenizer(resolve_model(config.reference))  # Its name is recorded even where nothing is compared with it.
    tokenizer = load_tokenizer(source)
    set_template(tokenizer, arguments)
    train_rows, eval_rows = _rows(config, tokenizer, arguments)
    require_tokens(source, [largest_token(rows) for rows in (train_rows, eval_rows) if rows is not None])
    with blaming(settings.config):
        require_rows_for_auto(config, len(train_rows))
    plan = Plan(
        file=settings.config,
        config=config,
        arguments=arguments,
        resume=resume,
        start=start,
        tokenizer=tokenizer,
        train_rows=train_rows,
        eval_rows=eval_rows,
        safeguards=safeguards,
        report=_report(config, source, train_rows, eval_rows, safeguards, date=template_date(tokenizer)),
    )
    if resume:
        require_same_run(plan.out, plan.report)
    return plan


def for_trl(config: TrainConfig) -> dict[str, Any]:
    """Returns what TRL gets: our labels are made already, and TRL refuses the switch for its own on such rows."""
    return {**config.trl, "assistant_only_loss": False, "resume_from_checkpoint": None}


def _asks_to_resume(config: TrainConfig) -> bool:
    stated = config.trl.get("resume_from_checkpoint")
    if isinstance(stated, str):
        raise InputError("resume_from_checkpoint names a folder; set output_dir to the run's and use --resume.")
    return bool(stated)


def require_free(out: Path, *, resume: bool) -> None:
    """Raises InputError when a run's folder holds anything but the run to be resumed."""
    holds_run = (out / TrainReport.file).is_file()
    if resume and holds_run:
        return
    try:
        refuse_non_empty(out)
    except InputError as error:
        if holds_run:
            raise InputError(f"{out} holds a run already; continue it with --resume, or name another folder.") from None
        raise error


def _require_evaluation(config: TrainConfig, arguments: Any) -> None:
    if config.eval_dataset is None and arguments.eval_strategy != "no":
        raise InputError(f"eval_strategy is {arguments.eval_strategy.value}, but there is no eval_dataset; name one.")
    if config.drift is not None and config.drift.stop is not None and arguments.eval_strategy == "no":
        raise InputError("drift.stop acts only at evaluations; set eval_strategy and name an eval_dataset.")


def _rows(config: TrainConfig, tokenizer: Any, arguments: Any) -> tuple[Any, Any]:
    """Reads the rows to train on and those to evaluate; None for these where no data set is named."""
    _require_evaluation(config, arguments)
    train_rows = _tokens(config, config.dataset, config.dataset_split, tokenizer, arguments)
    if config.eval_dataset is None:
        return train_rows, None
    return train_rows, _tokens(config, config.eval_dataset, config.eval_split, tokenizer, arguments)


def _tokens(config: TrainConfig, name: str, split: str, tokenizer: Any, arguments: Any) -> Any:
    """Reads one data set as token ids and labels; rows with nothing to learn are dropped or refused."""
    how = Supervision(
        tokenizer=tokenizer,
        render=config.render,
        text_field=arguments.dataset_text_field,
        completion_only=config.trl.get("completion_only_loss") is not False,
        assistant_only=config.trl.get("assistant_only_loss") is not False,
    )
    rows = prepare_rows(open_rows(name, split=split), how, num_proc=arguments.dataset_num_proc)
    # Only these two ways of packing split a long row instead of cutting it.
    splits = arguments.packing and arguments.packing_strategy != "bfd"
    return drop_empty_rows(
        rows,
        where=name,
        max_length=None if splits else arguments.max_length,
        keep_end=arguments.truncation_mode == "keep_end",
        on_empty=config.on_empty_rows,
    )


def _report(
    config: TrainConfig,
    source: ModelSource,
    train_rows: Any,
    eval_rows: Any,
    safeguards: Sequence[Any],
    *,
    date: str | None,
) -> TrainReport:
    stated = {key: value for key, value in asdict(config).items() if key != "trl"} | dict(config.trl)
    # JSON has no number for a clipping at infinity.
    stated = {key: str(value) if value in (inf, -inf) else value for key, value in stated.items()}
    is_start = config.reference is None
    return TrainReport(
        **origin(),
        config=stated,
        model=StartRecord(name=config.model, adapter=config.adapter, weights_sha256=weights_hash(source)),
        reference=ReferenceRecord(
            name=config.reference or config.model, adapter=config.adapter if is_start else None, is_start=is_start
        ),
        output="checkpoint" if config.lora is None else "adapter",
        data=DataRecord(
            dataset=config.dataset,
            rows=len(train_rows),
            tokens_sha256=tokens_hash(train_rows),
            date=date,
            eval_dataset=config.eval_dataset,
            eval_rows=None if eval_rows is None else len(eval_rows),
        ),
        safeguards=[{"name": safeguard.name, "on": is_on(safeguard)} for safeguard in safeguards],
    )
