"""What a chat template tells of the turns that it renders: the token that ends one, and the marks of reasoning."""

from transformers import PreTrainedTokenizerBase

from moored.errors import UserError
from moored.huggingface.data.chat import render_chat
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


def _rendered(tokenizer: PreTrainedTokenizerBase, *answer: dict[str, str]) -> str:
    """A question and what follows; empty where the template cannot render them."""
    if not tokenizer.chat_template:
        return ""
    try:
        return render_chat(tokenizer, [_ASKED, *answer])
    except UserError:
        return ""
