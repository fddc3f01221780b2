"""Texts as token ids, many at once, and what stands between two special tokens only once."""

import re
from collections.abc import Sequence
from itertools import chain, product
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SIDES = ("", "Hi", " hi", "hi ", "\n")
"""What stands beside a special token in the trial."""


class Encoder:
    """Makes token ids of texts, the same as a call of the tokenizer.

    A tokenizer in Rust is asked for nothing but the ids. It first cuts a text at its special tokens and then reads each
    piece alone; here the pieces are cut, so that those which many texts share (a system prompt, the header of a turn, a
    question with and without its answer) are read once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._backend: Any = tokenizer.backend_tokenizer if _is_plain(tokenizer) else None
        self._special: dict[str, int] = {}
        self._cut: re.Pattern[str] | None = None
        if self._backend is not None and not tokenizer.split_special_tokens:
            self._prepare_cuts()

    def ids(self, texts: Sequence[str], *, special: bool, known: dict[str, list[int]]) -> list[list[int]]:
        """Returns the ids of each text.

        Args:
            texts: the texts, maybe none.
            special: whether the tokenizer adds its special tokens.
            known: the ids of pieces; those of new ones are added.
        """
        if self._cut is None or special:
            return self._whole(texts, special=special)
        cuts = [self._cut.split(text) for text in texts]
        new = list(dict.fromkeys(piece for pieces in cuts for piece in pieces if piece not in known))
        known |= zip(new, self._whole(new, special=False), strict=True)
        return [list(chain.from_iterable(map(known.__getitem__, pieces))) for pieces in cuts]

    def _whole(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        if self._backend is None:
            call = self.tokenizer(list(texts), add_special_tokens=special, return_attention_mask=False)
            return list(call["input_ids"])
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = self.tokenizer.split_special_tokens
        return [each.ids for each in self._backend.encode_batch_fast(list(texts), add_special_tokens=special)]

    def _prepare_cuts(self) -> None:
        """Finds where texts may be cut; nowhere if a trial shows that a piece is read otherwise alone."""
        added = self._backend.get_added_tokens_decoder().values()
        # Those that match in normalized text are found inside the pieces.
        special = [token for token in added if not token.normalized]
        if any(token.lstrip or token.rstrip or token.single_word for token in special):
            return
        # The longest first, as in Rust.
        names = sorted({token.content for token in special}, key=len, reverse=True)
        cut = re.compile(f"({'|'.join(map(re.escape, names))})") if names else None
        texts = [f"{before}{name}{after}" for name in names[-3:] for before, after in product(_SIDES, _SIDES)]
        expected, self._cut = self._whole(texts, special=False), cut
        if self.ids(texts, special=False, known={}) != expected:
            self._cut = None


def _is_plain(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a call of the tokenizer does nothing with texts but hand them to Rust."""
    own, plain = type(tokenizer), PreTrainedTokenizerFast
    steps = ("__call__", "_encode_plus", "_batch_encode_plus")
    return issubclass(own, plain) and all(getattr(own, step, None) is getattr(plain, step, None) for step in steps)


def is_whole(text: str) -> bool:
    """Whether a text has no half of a character, a lone surrogate, which JSON can hold and no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
