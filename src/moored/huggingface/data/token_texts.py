"""Texts that are single tokens of a tokenizer: what a reader sees of a token, and the way back to its id."""

import random
from bisect import bisect
from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from moored.errors import InputError

_BEFORE = "\n"
"""Tokens are read behind a line break: at the start of a text many tokenizers add a space of their own."""
_NEAR = 32
"""As many tokens to either side are drawn from."""
_BROKEN = "\ufffd"
"""What a decoder puts where bytes are no UTF-8."""


def token_text(token: int, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The text of a token within running text, its leading space included; None where it is no UTF-8 alone."""
    before = _ids(tokenizer, _BEFORE)
    text = _decoded(tokenizer, [*before, token])[len(_decoded(tokenizer, before)) :]
    return None if _BROKEN in text else text


def token_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The id of each text, in order; " cannot" and "cannot" are two texts, with two ids.

    Args:
        texts: each exactly one token within running text, or at the start of a text where it is none within.
        tokenizer: of the model that is meant.

    Raises:
        InputError: no text at all, or the first one that is several tokens, a special token, or the same token as
            another.
    """
    if not texts:
        raise InputError("There is no safety token; name at least one.")
    special, found = special_ids(tokenizer), {}
    for text in texts:
        ids = single_token(text, tokenizer)
        if len(ids) != 1:
            raise InputError(
                f"The safety token {text!r} is {len(ids)} tokens of this tokenizer; name texts of one token each."
            )
        if ids[0] in special:
            raise InputError(f"The safety token {text!r} is a special token, which no answer holds; leave it out.")
        if ids[0] in found:
            raise InputError(f"The safety tokens {found[ids[0]]!r} and {text!r} are the same one; name it once.")
        found[ids[0]] = text
    return list(found)


def single_token(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of a text: just one where it is a token within running text or at the start of one."""
    before = _ids(tokenizer, _BEFORE)
    whole, alone = _ids(tokenizer, _BEFORE + text), _ids(tokenizer, text)
    within = whole[len(before) :] if whole[: len(before)] == before else alone
    is_one = len(within) == 1 and within[0] != tokenizer.unk_token_id
    return alone if len(alone) == 1 and not is_one else within


def random_token_ids(ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, seed: int) -> list[int]:
    """As many other tokens, each drawn from those nearest in the vocabulary, without special tokens; ascending.

    Tokens stand in a vocabulary by how often texts hold them (byte-pair encoding numbers its merges in that order), and
    most are rare: drawn evenly, the others would be much rarer than the salient ones.

    Raises:
        InputError: the vocabulary has too few other tokens.
    """
    taken = set(ids)
    others = sorted(set(tokenizer.get_vocab().values()) - taken - special_ids(tokenizer))
    if len(others) < len(taken):
        raise InputError(
            f"The vocabulary has {len(others)} other tokens, too few to draw {len(taken)} in place of the salient "
            "ones; name fewer."
        )
    draw, drawn = random.Random(seed), []
    for token in sorted(taken):
        place = bisect(others, token)
        near = range(max(0, place - _NEAR), min(len(others), place + _NEAR))
        drawn.append(others.pop(draw.choice(near)))
    return sorted(drawn)


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of the tokens that stand for no text."""
    added = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    return added | set(tokenizer.all_special_ids)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))
