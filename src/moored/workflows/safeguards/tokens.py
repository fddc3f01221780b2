"""`find_safety_tokens`: the tokens with which an aligned model refuses, counted in its own refusals.

From the paper (arXiv 2604.17210): the tokens come from the aligned model's own rejections. Its exact rule
is not published; the score, the words that are dropped and the spellings that are added are ours.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from moored.embedded.prompts import request_pairs
from moored.errors import InactiveError, InputError, ModelError
from moored.files import write_json
from moored.huggingface.data import render_prompt, single_token, special_ids, token_text
from moored.huggingface.inference import REASONING_TOKENS, answer_token_log_probs, generate, spoken
from moored.huggingface.models import require_chat_template
from moored.measurement import Exchange, Judge, Label, RuleJudge
from moored.workflows.inputs.prompt_sets import spread
from moored.workflows.safeguards.keywords import keyword_positions

PROMPTS = 128
_JUDGED_TOKENS = 32
"""The minimum length of an answer that is judged; a shorter one may be cut before it refuses."""


@dataclass(frozen=True, kw_only=True)
class SafetyToken:
    """One token and its score, which is zero where the token is only another spelling of one that was found."""

    text: str
    """The token within running text: " cannot" and "cannot" are different tokens."""
    id: int
    """The id in the tokenizer that it was found with; where the token is read from a file, the text counts."""
    frequency: float
    """The number of occurrences per refusal."""
    gain: float | None
    """How much likelier the token is under the aligned model than under the base, in nats: the mean over its
    occurrences of the difference of log-probabilities, with negative differences as 0. None without a base."""
    score: float
    """The product frequency × gain, or the frequency where there is no base."""


def find_safety_tokens(
    model: torch.nn.Module,
    tokenizer: Any,
    *,
    base: torch.nn.Module | None = None,
    prompts: Sequence[str] | None = None,
    count: int = 32,
    answer_tokens: int = 12,
    batch_size: int = 32,
    judge: Judge | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[SafetyToken]:
    """Finds the tokens with which a model refuses, best keywords first, each followed by its other spellings.

    The model answers harmful requests greedily, and the first tokens of its refusals are scored. Special tokens,
    punctuation and English function words are left out, but negations stay; spellings (capital, leading space) that
    are single tokens are added.

    Args:
        model: the aligned causal language model; its training mode is restored afterwards.
        tokenizer: the model's tokenizer, with a chat template.
        base: the model before alignment, for the same tokenizer; without it the frequency alone decides.
        prompts: harmful requests as a user would type them (default: 128 embedded requests of the *align* side).
        count: the maximum number of tokens, spellings included, ≥ 1; 20 to 50 are usual.
        answer_tokens: the number of tokens of each refusal to look at, ≥ 1. With more, the words of the explanation
            come in, which score high against the base because they are rare.
        batch_size: the number of prompts per batch, ≥ 1.
        judge: the judge that says which answers are refusals (default: text rules).
        progress: a function that is called after each batch with the number of answers.

    Raises:
        InputError: `count` or `answer_tokens` is below 1, or there is no prompt.
        ModelError: the tokenizer has no chat template, or a larger vocabulary than the base.
        InactiveError: the model refuses nothing, or no keyword of its refusals is likelier than under the base.
    """
    _require_positive(count=count, answer_tokens=answer_tokens)
    require_chat_template(tokenizer, "the model")
    _require_same_vocabulary(base, tokenizer)
    if prompts is None:
        prompts = [pair.harmful for pair in spread(request_pairs("align"), PROMPTS)]
    answer = partial(
        generate,
        model,
        tokenizer,
        max_new_tokens=max(answer_tokens, _JUDGED_TOKENS),
        reasoning_tokens=REASONING_TOKENS,
        batch_size=batch_size,
        progress=progress,
    )
    rendered, refusals = _refusals(prompts, tokenizer, answer, judge or RuleJudge())
    gains = None if base is None else _gains(model, base, tokenizer, rendered, refusals)
    tokens = _scored(tokenizer, refusals, gains, answer_tokens)
    if not tokens:
        raise InactiveError(
            f"The model's {len(refusals)} refusals contain no keyword that is likelier under the model than under the "
            "base; name the tokens yourself, or check the base."
        )
    return _with_spellings(tokens, tokenizer)[:count]


def write_safety_tokens(tokens: Iterable[SafetyToken], file: Path | str) -> None:
    """Writes tokens as a JSON list that people can read and edit; `read_token_texts` reads the texts back."""
    rows = [asdict(token) for token in tokens]
    write_json(file, [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows])


def _require_positive(**numbers: int) -> None:
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"find_safety_tokens({name}=...) must be at least 1, got {value}.")


def _require_same_vocabulary(base: Any, tokenizer: Any) -> None:
    known = None if base is None else base.get_input_embeddings().weight.shape[0]
    if known is not None and known < len(tokenizer):
        raise ModelError(
            f"The base has a vocabulary of {known} tokens, but the aligned model's tokenizer has {len(tokenizer)}; "
            "name the base that the model was aligned from, or leave it out."
        )


def _refusals(
    prompts: Sequence[str], tokenizer: Any, answer: Callable[[list[str]], list[str]], judge: Judge
) -> tuple[list[str], list[str]]:
    """Returns the rendered prompts that were refused, and the refusals."""
    if not prompts:
        raise InputError("find_safety_tokens(prompts=...) is empty; give at least one harmful request.")
    rendered = [render_prompt(tokenizer, prompt) for prompt in prompts]
    answers = spoken(tokenizer, rendered, answer(rendered))
    verdicts = judge.verdicts([Exchange(*pair) for pair in zip(prompts, answers, strict=True)])
    rows = [row for row, verdict in enumerate(verdicts) if verdict.label is Label.REFUSED]
    if not rows:
        raise InactiveError(
            f"The model refused none of {len(prompts)} harmful requests, so no safety tokens can be found; name them "
            "yourself, or start from an aligned model."
        )
    return [rendered[row] for row in rows], [answers[row] for row in rows]


def _gains(
    model: torch.nn.Module, base: torch.nn.Module, tokenizer: Any, rendered: list[str], answers: list[str]
) -> list[list[float]]:
    """Computes how much likelier each token of each answer is under the model than under the base, at least 0."""
    own, other = (answer_token_log_probs(which, tokenizer, rendered, answers) for which in (model, base))
    return [(mine - its).clamp(min=0).tolist() for mine, its in zip(own, other, strict=True)]


def _scored(
    tokenizer: Any, answers: list[str], gains: list[list[float]] | None, answer_tokens: int
) -> list[SafetyToken]:
    """Scores every keyword in the beginnings of the answers; lists those above 0 in the order of the text."""
    occurrences: dict[int, list[float]] = defaultdict(list)
    texts: dict[int, str] = {}
    for row, answer in enumerate(answers):
        ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
        texts |= {token: token_text(token, tokenizer) or "" for token in ids if token not in texts}
        for position in keyword_positions(tuple(texts[token] for token in ids), answer_tokens):
            occurrences[ids[position]].append(1.0 if gains is None else gains[row][position])
    special = special_ids(tokenizer)
    tokens = [
        SafetyToken(
            text=texts[token],
            id=token,
            frequency=len(values) / len(answers),
            gain=None if gains is None else sum(values) / len(values),
            score=sum(values) / len(answers),
        )
        for token, values in occurrences.items()
        if token not in special and single_token(texts[token], tokenizer) == [token]
    ]
    return [token for token in tokens if token.score > 0]


def _with_spellings(tokens: list[SafetyToken], tokenizer: Any) -> list[SafetyToken]:
    """Ranks words by the score of all their spellings, and adds the spellings that were not found."""
    words: dict[str, list[SafetyToken]] = defaultdict(list)
    for token in sorted(tokens, key=lambda token: (-token.score, token.id)):
        words[token.text.strip().lower()].append(token)
    ranked = sorted(words.values(), key=lambda group: -sum(token.score for token in group))
    return [token for group in ranked for token in [*group, *_other_spellings(group, tokenizer)]]


def _other_spellings(group: list[SafetyToken], tokenizer: Any) -> list[SafetyToken]:
    word, known = group[0].text.strip(), {token.id for token in group}
    gain = None if group[0].gain is None else 0.0
    others: dict[int, SafetyToken] = {}
    for text in (space + spelling for spelling in (word, word[:1].swapcase() + word[1:]) for space in (" ", "")):
        ids = single_token(text, tokenizer)
        if len(ids) == 1 and ids[0] not in known and token_text(ids[0], tokenizer) == text:
            others[ids[0]] = SafetyToken(text=text, id=ids[0], frequency=0.0, gain=gain, score=0.0)
    return list(others.values())
