"""From measured models to the report, its sentence, and the command to run next."""

import shlex
from pathlib import Path

from moored.huggingface.models import ModelSource
from moored.measurement import BROKEN, Judge, JudgeError, JudgeWithError, Outcome, compare, estimates
from moored.report.reading.answers import unfinished as unfinished_of
from moored.report.reading.measure import Against, JudgeRecord, MeasureReport
from moored.report.words.outcomes import unfinished, verdict
from moored.workflows.inputs.models import as_arguments, laid_over
from moored.workflows.measure.measure_model import Measured
from moored.workflows.measure.prompts import Prompts
from moored.workflows.measure.settings import MeasureSettings
from moored.workflows.records.provenance import origin


def build_report(
    measured: Measured,
    reference: Measured | None,
    prompts: Prompts,
    settings: MeasureSettings,
    judge: Judge,
    *,
    seconds: float,
) -> MeasureReport:
    """Makes the report of one model, compared with its reference if there is one."""
    error = judge.error if isinstance(judge, JudgeWithError) else None
    return MeasureReport(
        **origin(),
        seconds=round(seconds, 1),
        model=measured.model,
        judge=JudgeRecord(name=judge.name, version=judge.version),
        settings=settings.stated(),
        prompts=prompts.describe(),
        estimates=estimates(measured.answers, error),
        against=None if reference is None else _against(measured, reference, error),
        answers=measured.answers,
        reference_answers=() if reference is None else reference.answers,
    )


def _against(measured: Measured, reference: Measured, error: JudgeError | None) -> Against:
    comparison = compare(reference.answers, measured.answers)
    safety = comparison.get("asr")
    outcome = Outcome.NOT_JUDGED if safety is None else safety.outcome
    return Against(
        model=reference.model,
        estimates=estimates(reference.answers, error),
        comparison=comparison,
        outcome=outcome,
        sentence=" ".join(
            filter(
                None,
                [
                    verdict(safety, BROKEN.compare(reference.answers, measured.answers)),
                    *_unfinished(measured, reference),
                ],
            )
        ),
        next_command=next_command(outcome, measured.source, reference.source),
    )


def _unfinished(measured: Measured, reference: Measured) -> list[str]:
    """Says of either model how many of its answers are left out."""
    named = {"the model": measured.answers, "the reference": reference.answers}
    return [unfinished(name, unfinished_of(answers), len(answers)) for name, answers in named.items()]


def next_command(outcome: Outcome, source: ModelSource, reference: ModelSource) -> str | None:
    """The command that repairs a model that has drifted, or asks more where nothing was detected."""
    if outcome is Outcome.WORSE:
        return _repair(source, reference)
    return _more_prompts(source, reference) if outcome is Outcome.NO_DIFFERENCE else None


def _more_prompts(source: ModelSource, reference: ModelSource) -> str:
    """What may show a smaller difference; the file is the user's to bring."""
    against = as_arguments(reference).replace(" --adapter ", " --against-adapter ")
    return f"moored measure {as_arguments(source)} --against {against} --harmful MORE_REQUESTS.jsonl --out more"


def _repair(source: ModelSource, reference: ModelSource) -> str:
    """What repairs a model; a whole checkpoint must be a folder, so one of the Hub is fetched first."""
    rest = f"{_against_if_needed(source, reference)} --out recovered"
    if source.adapter is not None or Path(source.path).is_dir():
        return f"moored recover {as_arguments(source)}{rest}"
    folder = shlex.quote(source.path.rpartition("/")[2])
    return f"hf download {shlex.quote(source.path)} --local-dir {folder} && moored recover {folder}{rest}"


def _against_if_needed(source: ModelSource, reference: ModelSource) -> str:
    """The aligned model, unless the repair finds it by itself, or no single name says which it is."""
    by_itself = source.adapter is not None and (reference.path, reference.adapter) == (source.path, None)
    if by_itself or laid_over(reference) is not None:
        return ""
    return f" --against {shlex.quote(reference.name or reference.path)}"
