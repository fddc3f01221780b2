"""The prompts of a measurement, rendered once for every model that is compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moored.embedded.prompts import openings
from moored.errors import InputError, ModelError
from moored.huggingface.data import reasoning_marks, render_prompt, rendering_hash, template_date
from moored.huggingface.models import ModelSource, context_length, load_tokenizer, require_chat_template, require_tokens
from moored.measurement import Reasoning
from moored.report.reading.measure import PromptRecord
from moored.workflows.inputs.prompt_sets import Item, PromptSet, spread
from moored.workflows.measure.interface import DriftPrompts
from moored.workflows.measure.settings import MeasureSettings

_MARGIN = 16
"""The minimum number of tokens that an answer may be longer than the expected one."""


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """All prompts with their rendering, and the tokenizer that rendered them."""

    sets: Sequence[PromptSet]
    rendered: Mapping[str, Sequence[str]]
    tokenizer: Any
    lengths: Mapping[str, int]
    """The maximum length of an answer of each set, in tokens."""
    marks: Reasoning
    """How a model marks its reasoning."""

    def items(self) -> list[tuple[str, Item]]:
        """Each prompt after the name of its set, in order."""
        return [(each.name, item) for each in self.sets for item in each.items]

    def texts(self) -> list[str]:
        """The rendered text of each prompt, in the same order."""
        return [text for each in self.sets for text in self.rendered[each.name]]

    def describe(self) -> dict[str, PromptRecord]:
        """The number, the hash of the rendering and the source of each set."""
        return {
            each.name: PromptRecord(
                n=len(each.items),
                rendered_sha256=rendering_hash(self.rendered[each.name]),
                source=each.source,
                max_new_tokens=self.lengths[each.name],
                date=template_date(self.tokenizer),
            )
            for each in self.sets
        }

    def lengths_of_answers(self) -> list[int]:
        """The maximum length of the answer to each prompt, in the same order."""
        return [self.lengths[each.name] for each in self.sets for _ in each.items]

    def split(self) -> Callable[[int, str], tuple[str, str | None]]:
        """Splits the text for a prompt, given by its position, into the reasoning and the answer, as `Reasoning`."""
        begun = [self.marks.begun_by(text) for text in self.texts()]
        return lambda row, text: self.marks.split(text, begun=begun[row])

    def drift(self, count: int) -> DriftPrompts | None:
        """Up to `count` prompts of each kind, taken evenly, to measure drift on; None without harmful ones."""
        if not count or "harmful" not in self.rendered:
            return None
        texts = openings()
        return DriftPrompts(
            harmful=spread(self.rendered["harmful"], count),
            ordinary=spread(self.rendered.get("ordinary", ()), count),
            refusing=texts.refusing,
            complying=texts.complying,
        )


def render(sets: Sequence[PromptSet], source: ModelSource, settings: MeasureSettings) -> Prompts:
    """Renders all prompts with the chat template of a model.

    Raises:
        ModelError: the tokenizer has no chat template, or it does not render a prompt as it should; the sentence names
            the prompt.
    """
    tokenizer = load_tokenizer(source)
    require_chat_template(tokenizer, source.describe())
    return Prompts(
        sets=sets,
        rendered={each.name: [_rendered(tokenizer, each, item, settings) for item in each.items] for each in sets},
        tokenizer=tokenizer,
        lengths={each.name: _length(tokenizer, each, settings.max_new_tokens) for each in sets},
        marks=reasoning_marks(tokenizer),
    )


def _rendered(tokenizer: Any, prompts: PromptSet, item: Item, settings: MeasureSettings) -> str:
    try:
        return render_prompt(tokenizer, item.prompt, settings.system, thinking=settings.thinking)
    except ModelError as error:
        raise ModelError(f"In prompt {item.id} of {prompts.source}: {error}") from error


def _length(tokenizer: Any, prompts: PromptSet, stated: int) -> int:
    """The room of a set's answers: an expected one always fits, though the model may write it in a few more tokens."""
    expected = [len(_ids(tokenizer, item.expected)) for item in prompts.items if item.expected is not None]
    return max([stated, *(length + max(_MARGIN, length // 4) for length in expected)])


def require_same_tokens(prompts: Prompts, source: ModelSource) -> None:
    """Raises ModelError when a model would read the rendered prompts as other tokens."""
    other = load_tokenizer(source)
    for text in (text for texts in prompts.rendered.values() for text in texts):
        if _ids(other, text) != _ids(prompts.tokenizer, text):
            raise ModelError(
                f"The tokenizer of {source.describe()} reads the prompts as other tokens than the measured model's; "
                "compare two models of one family."
            )


def require_known_tokens(prompts: Prompts, source: ModelSource) -> None:
    """Raises ModelError when a prompt holds a token that a model lacks."""
    require_tokens(source, (token for text in prompts.texts() for token in _ids(prompts.tokenizer, text)))


def require_room(prompts: Prompts, source: ModelSource) -> None:
    """Raises InputError for the first prompt that does not fit a model's context together with its answer."""
    room = context_length(source)
    if room is None:
        return
    for each in prompts.sets:
        for item, text in zip(each.items, prompts.rendered[each.name], strict=True):
            length, answer = len(_ids(prompts.tokenizer, text)), prompts.lengths[each.name]
            if length + answer > room:
                raise InputError(
                    f"Prompt {item.id} of {each.source} has {length} tokens and its answer up to {answer}, but "
                    f"{source.describe()} was made for {room}; shorten the prompt or leave it out."
                )


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
