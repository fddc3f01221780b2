"""The safeguards of a configuration file, with the names of models in them resolved."""

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from moored.embedded.model import ALIGNED, BASE
from moored.errors import InputError, blaming
from moored.files import read_text, write_json
from moored.huggingface.data import read_token_texts
from moored.huggingface.distributed.processes import of_main_process
from moored.huggingface.distributed.sharding import refuse_sharding_settings
from moored.huggingface.models import ModelSource, best_device, checkpoint_folder, load_model
from moored.huggingface.safeguards.interface import is_on
from moored.regularizers import AlignmentDirection, HarmfulDirection, SafetyTokens
from moored.report.reading.record import record_of
from moored.selection import GradientSelection
from moored.settings import converted, require_known, typed
from moored.workflows.inputs.models import resolve_model
from moored.workflows.records.progress import progress_bar
from moored.workflows.safeguards.catalogue import AUTO, SAFEGUARDS
from moored.workflows.safeguards.examples import harmful_examples
from moored.workflows.safeguards.tokens import PROMPTS, SafetyToken, find_safety_tokens, write_safety_tokens
from moored.workflows.train.auto_strength import AutoStrength, ShortRuns, held_out_rows, search
from moored.workflows.train.config import TrainConfig

TOKENS = "safety_tokens.json"
STRENGTHS = "auto_strength.json"


def read_safeguards(settings: TrainConfig, source: ModelSource) -> list[Any]:
    """The safeguards by name from the registries.

    Args:
        settings: the configuration.
        source: the model that the run starts from.

    Raises:
        InputError: an unknown name, or settings that the method refuses.
        ModelError: a model that a safeguard names is not there.
    """
    made = [_made(dict(entry), source) for entry in settings.safeguards]
    if settings.reference is not None and any(is_on(each) for each in made if not isinstance(each, GradientSelection)):
        raise InputError(
            "reference cannot be combined with penalties, which always use the starting weights; remove reference."
        )
    return [_resolved(each, source) for each in made]


def refuse_sharding(settings: TrainConfig) -> None:
    """Raises InputError where safeguards would have to read sharded weights; TRL may refuse those for other reasons."""
    if settings.safeguards:
        refuse_sharding_settings(settings.trl)


def require_rows_for_auto(settings: TrainConfig, rows: int) -> None:
    """Raises InputError, before any model is loaded, where a strength is to be found from too few rows."""
    if any(each.get("strength") == AUTO for each in settings.safeguards):
        held_out_rows(rows)


class Findings:
    """What a run finds out for its safeguards before the first step, or found out when it began, if it is resumed.

    Args:
        out: the run's folder; nothing is written there before `write`.
        console: where progress and outcomes are shown; None is silent.
    """

    def __init__(self, out: Path, console: Console | None) -> None:
        self._out, self._console = out, console
        self._tokens: list[SafetyToken] | None = None
        file = out / STRENGTHS
        self._strengths = _read_strengths(file) if file.is_file() else {}

    def tokens(self, safeguards: Sequence[Any], source: ModelSource, tokenizer: Any) -> list[Any]:
        """The safeguards, `SafetyTokens` that name no tokens with those that the model itself refuses by.

        Args:
            safeguards: as `read_safeguards` gave them.
            source: the model that the run starts from; where it is a base with an adapter, the two are compared.
            tokenizer: of the run.

        Raises:
            InactiveError: the model refuses nothing.
        """
        lacking = [each for each in safeguards if isinstance(each, SafetyTokens) and is_on(each) and not each.tokens]
        if not lacking:
            return [*safeguards]
        if (self._out / TOKENS).is_file():
            texts = read_token_texts(self._out / TOKENS)
        else:
            self._tokens = of_main_process(_found(source, tokenizer, self._console))
            texts = tuple(each.text for each in self._tokens)
        return [replace(each, tokens=texts) if each in lacking else each for each in safeguards]

    def strengths(
        self, safeguards: Sequence[Any], settings: TrainConfig, short_runs: Callable[[], ShortRuns]
    ) -> list[Any]:
        """The safeguards, those whose strength is `auto` with what short runs find, one after the other.

        Args:
            safeguards: as `tokens` gave them.
            settings: the configuration, which says whose strength is to be found.
            short_runs: makes what runs them; called only if one is needed.

        Raises:
            InputError: the short runs give nothing to choose by.
        """
        automatic, made = [each["name"] for each in settings.safeguards if each.get("strength") == AUTO], [*safeguards]
        for name in automatic:
            if name not in self._strengths:
                # Those still to be found would act with a strength that nobody chose.
                waiting = {other for other in automatic if other not in self._strengths} - {name}
                others = [each for each in made if each.name not in waiting]
                self._strengths[name] = of_main_process(search(short_runs(), others, name, self._console))
            chosen = self._strengths[name].strength
            made = [replace(each, strength=chosen) if each.name == name else each for each in made]
        return made

    def write(self) -> None:
        """Keeps what was found beside the run's record, from where a resumed run reads it."""
        if self._tokens is not None:
            write_safety_tokens(self._tokens, self._out / TOKENS)
        if self._strengths:
            write_json(self._out / STRENGTHS, {name: asdict(found) for name, found in self._strengths.items()})

    def forget(self) -> None:
        """Removes what `write` wrote."""
        for name in (TOKENS, STRENGTHS):
            (self._out / name).unlink(missing_ok=True)


def _read_strengths(file: Path) -> dict[str, AutoStrength]:
    """Reads what `Findings.write` wrote."""
    try:
        return {name: record_of(AutoStrength, found) for name, found in json.loads(read_text(file)).items()}
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise InputError(f"{file} is damaged ({error}); delete it, or start the run in another folder.") from None


def _found(source: ModelSource, tokenizer: Any, console: Console | None) -> list[SafetyToken]:
    model: Any = load_model(source, dtype="auto", merge=True)
    base: Any = None if source.adapter is None else load_model(replace(source, adapter=None), dtype="auto")
    for each in [model] if base is None else [model, base]:
        each.to(best_device())
    with progress_bar(console, "finding safety tokens", PROMPTS) as advance:
        return find_safety_tokens(model, tokenizer, base=base, progress=advance)


def _made(stated: dict[str, Any], source: ModelSource) -> Any:
    name = stated.pop("name", None)
    if name is None:
        raise InputError(f"an entry of safeguards has no name; it may be one of {', '.join(SAFEGUARDS)}.")
    require_known([name], SAFEGUARDS, what="safeguard")
    with blaming(f"safeguard {name}"):
        return _configured(name, SAFEGUARDS[name], stated, source)


def _configured(name: str, kind: Any, stated: dict[str, Any], source: ModelSource) -> Any:
    if "strength" in stated:
        strength = converted(stated["strength"], float | Literal["auto"], "strength")
        stated = {**stated, "strength": 1.0 if strength == AUTO else strength}
    if kind is AlignmentDirection and source.name == ALIGNED:
        stated = {"base": BASE, **stated}
    settings = typed(stated, kind)
    missing = [each.name for each in fields(kind) if each.init and each.default is MISSING and each.name not in stated]
    if missing:
        raise InputError(f"{missing[0]} is missing; see `moored safeguards {name}`.")
    return kind(**settings)


def _resolved(safeguard: Any, source: ModelSource) -> Any:
    """With what only this room knows: paths of models, and embedded examples."""
    if isinstance(safeguard, AlignmentDirection) and safeguard.strength:
        return _with_base(safeguard, source)
    if isinstance(safeguard, HarmfulDirection) and safeguard.examples is None:
        return replace(safeguard, examples=harmful_examples())
    return safeguard


def _with_base(penalty: AlignmentDirection, source: ModelSource) -> AlignmentDirection:
    """With the base as a path; where the run starts from a LoRA over that very base, the direction is this LoRA."""
    assert penalty.base is not None
    base = resolve_model(penalty.base)
    if base.adapter is not None:
        raise InputError(
            f"{penalty.name} has the base {penalty.base}, which is a model with an adapter; name the checkpoint before "
            "alignment."
        )
    if penalty.adapter is None and source.adapter is not None and _same(base.path, source.path):
        return replace(penalty, base=base.path, adapter=str(source.adapter))
    return replace(penalty, base=base.path)


def _same(one: str, other: str) -> bool:
    return one == other or checkpoint_folder(one).resolve() == checkpoint_folder(other).resolve()
