"""Is a text degenerate? Simple statistics that see broken output, not bad reasoning.

Fine-tuning that goes wrong leaves loops, one token repeated, or symbol soup. All three are visible without a model:
repeated word n-grams, the compression ratio and the share of letters and digits. Fluent nonsense is not seen.
The thresholds are our choice; ordinary answers stay far from them (`results/judge`).
"""

import re
import unicodedata
import zlib
from collections import Counter

NGRAM = 4
"""Length of the word n-grams whose repetition counts."""
MAX_REPEATED = 0.5
"""Above this share of n-grams that stood in the text before, it loops."""
MAX_WORD_SHARE = 0.5
"""Above this share of one and the same word, it is one token repeated."""
MIN_WORDS = 8
"""Shorter texts are never called a loop."""
MIN_COMPRESSED = 0.25
"""Below this ratio of compressed to raw bytes, it loops (English prose: 0.4 at 5,000 characters, more when shorter)."""
MIN_BYTES = 48
"""Shorter texts are never judged by compression: zlib's own header weighs too much."""
MIN_READABLE = 0.3
"""Below this share of letters and digits among the visible characters, it is symbol soup."""
MIN_VISIBLE = 24
"""Shorter texts are soup only if they have no letter or digit at all."""

_WORD = re.compile(r"\w+(?:'\w+)*")
_SAME_SYMBOL = re.compile(r"([^\w\s])\1+")


def is_degenerate(text: str, *, symbols_expected: bool = False) -> bool:
    """Whether `text` is a loop, one token repeated, or symbol soup; False where it is too short to tell.

    Args:
        text: what a model wrote.
        symbols_expected: whether a figure, emojis, a formula or code was asked for, which are symbols rightly.
    """
    if symbols_expected and _is_soup(text):
        return len(set(text.split())) == 1 and len(set(text.strip())) == 1
    return _is_soup(text) or _is_one_token(text) or _loops(text)


def repeated_share(words: list[str], size: int = NGRAM) -> float:
    """Share of the word n-grams of length `size` that already stood earlier in `words`; 0 if there are none."""
    ngrams = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def compression_ratio(text: str) -> float:
    """Bytes after zlib over bytes before: about 1 for short text, near 0 for a long loop, 1 for the empty text."""
    raw = text.encode("utf-8", "replace")
    return len(zlib.compress(raw, 9)) / len(raw) if raw else 1.0


def readable_share(text: str) -> float:
    """Share of letters, digits and accents among the visible characters; a run of one symbol counts once."""
    visible = [character for character in _SAME_SYMBOL.sub(r"\1", text) if not character.isspace()]
    readable = sum(unicodedata.category(character)[0] in "LNM" for character in visible)
    return readable / len(visible) if visible else 0.0


def _loops(text: str) -> bool:
    words = _WORD.findall(text.lower())
    if len(words) >= MIN_WORDS and repeated_share(words) > MAX_REPEATED:
        return True
    # Scripts without spaces, and loops of single characters, have no words to count.
    return len(text.encode("utf-8", "replace")) >= MIN_BYTES and compression_ratio(text) < MIN_COMPRESSED


def _is_one_token(text: str) -> bool:
    words = _WORD.findall(text.lower())
    return len(words) >= MIN_WORDS and max(Counter(words).values()) / len(words) > MAX_WORD_SHARE


def _is_soup(text: str) -> bool:
    share = readable_share(text)
    long_enough = sum(not character.isspace() for character in text) >= MIN_VISIBLE
    return share == 0 or (long_enough and share < MIN_READABLE)
