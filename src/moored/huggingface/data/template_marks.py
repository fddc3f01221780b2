"""What a chat template tells of the turns that it renders: the token that ends one, and the marks of reasoning."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from moored.errors import UserError
from moored.huggingface.data.chat import Thinking, render_chat, render_prompt
from moored.huggingface.data.token_texts import special_ids
from moored.measurement.reasoning import KNOWN, THINK, Reasoning

_ASKED = {"role": "user", "content": "Where is it?"}
_ANSWER, _THOUGHT = "Zanzibar", "Madagascar"


def turn_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that ends the assistant's turn, or begins the next one; None where plain text does."""
    answer = {"role": "assistant", "content": _ANSWER}
    end = _first_special(tokenizer, _rendered(tokenizer, answer))
    return _first_special(tokenizer, _rendered(tokenizer, answer, _ASKED)) if end is None else end


def _first_special(tokenizer: PreTrainedTokenizerBase, rendered: str) -> int | None:
    """The first special token behind the answer."""
    ids = tokenizer(rendered.rpartition(_ANSWER)[2], add_special_tokens=False)["input_ids"]
    special = special_ids(tokenizer)
    return next((token for token in ids if token in special), None)


def reasoning_marks(tokenizer: PreTrainedTokenizerBase) -> Reasoning:
    """The marks of a model's reasoning, by its template or its vocabulary; where neither tells, the usual ones."""
    template = tokenizer.chat_template or ""
    text = "\n".join(template.values()) if isinstance(template, dict) else template
    in_template = (marks for marks in KNOWN if marks.start in text and marks.end in text)
    in_vocabulary = (marks for marks in KNOWN if all(_is_token(tokenizer, mark) for mark in (marks.start, marks.end)))
    return next(in_template, None) or _rendered_marks(tokenizer) or next(in_vocabulary, THINK)


def _is_token(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    return tokenizer.convert_tokens_to_ids(text) not in (None, tokenizer.unk_token_id)


def _rendered_marks(tokenizer: PreTrainedTokenizerBase) -> Reasoning | None:
    """What a template writes around the reasoning that a message brings along."""
    answer = {"role": "assistant", "content": _ANSWER}
    before, found, after = _rendered(tokenizer, {**answer, "reasoning_content": _THOUGHT}).partition(_THOUGHT)
    plain = _rendered(tokenizer, answer)
    if not found or _ANSWER not in after:
        return None
    same = next((at for at, (one, other) in enumerate(zip(before, plain, strict=False)) if one != other), len(before))
    start, end = before[same:].strip(), after.partition(_ANSWER)[0].strip()
    return Reasoning(start, end) if start and end else None


def answer_starts(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[str]) -> list[str]:
    """Rendered prompts up to where an answer without reasoning begins, in the template's own way of leaving it out.

    Right behind its prompt a model that reasons begins no answer, so that how likely it is to begin one there says
    nothing. What stands between is an empty block of reasoning, say, or the header of the channel for answers; most
    templates write nothing.
    """
    marks = reasoning_marks(tokenizer)
    header = _answer_header(tokenizer, marks)
    return [text + _behind(text, marks, header) for text in rendered]


def _behind(prompt: str, marks: Reasoning, header: str) -> str:
    if marks.begun_by(prompt):
        return f"\n{marks.end}\n\n"
    return "" if prompt.rstrip().endswith(marks.end) else header


def _answer_header(tokenizer: PreTrainedTokenizerBase, marks: Reasoning) -> str:
    """What a template writes between the prompt and an answer, or at the end of a prompt that switches reasoning off.

    White space alone is left to the model: its tokens take it along with the first word.
    """
    prompt, answered = _prompt(tokenizer), _rendered(tokenizer, {"role": "assistant", "content": _ANSWER})
    header = answered[len(prompt) :].partition(_ANSWER)[0] if answered.startswith(prompt) else ""
    if header.strip():
        return header
    unthinking = _prompt(tokenizer, thinking="off")
    is_closed = unthinking.rstrip().endswith(marks.end) and marks.start in unthinking
    return unthinking[unthinking.rindex(marks.start) :] if is_closed else ""


def _prompt(tokenizer: PreTrainedTokenizerBase, thinking: Thinking | None = None) -> str:
    """A question as a prompt; empty where the template cannot render it so."""
    if not tokenizer.chat_template:
        return ""
    try:
        return render_prompt(tokenizer, _ASKED["content"], thinking=thinking)
    except UserError:
        return ""


def _rendered(tokenizer: PreTrainedTokenizerBase, *answer: dict[str, str]) -> str:
    """A question and what follows; empty where the template cannot render them."""
    if not tokenizer.chat_template:
        return ""
    try:
        return render_chat(tokenizer, [_ASKED, *answer])
    except UserError:
        return ""
