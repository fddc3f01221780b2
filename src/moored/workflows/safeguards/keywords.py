"""Which tokens of an English refusal may tell that it is one: no punctuation, no function word, but every negation."""

from collections.abc import Sequence

# Our own list: those of NLTK and scikit-learn hold "not", "no" and "cannot".
_WORDS = """
    a an the this that these those such
    i me my mine myself we us our ours ourselves you your yours yourself yourselves
    he him his himself she her hers herself it its itself they them their theirs themselves one
    who whom whose which what when where why how whatever whoever
    someone somebody something anyone anybody anything everyone everybody everything
    am is are was were be been being do does did doing done have has had having
    can could may might must shall should will would
    and or but if then else than so because since as while although though until unless whether
    about above across after along among around at before behind below beneath beside between beyond by down during
    for from in inside into like near of off on onto out outside over past per through throughout to toward towards
    under up upon via with within
    all any both each either every few many more most much other others another own same several some
    let please get gets getting got go goes going put thank thanks
    again also already always even ever here just now often once only quite rather really still there thus too very
    well yes yet
    'm 're 's 've 'd 'll ’m ’re ’s ’ve ’d ’ll
"""
FUNCTION_WORDS = frozenset(_WORDS.split())
_NEGATIONS = frozenset({"not", "n't", "'t", "’t"})
"""Pieces that make a refusal of the word they follow: "can" is a function word, and half of "can't"."""


def telling(texts: Sequence[str], most: int) -> list[int]:
    """Which of the first `most` tokens are telling words, their first pieces, or pieces of a negation.

    Args:
        texts: the tokens of one answer within running text, leading spaces included.
        most: how many of them are looked at.
    """
    return [position for position in range(min(most, len(texts))) if _tells(texts, position)]


def _tells(texts: Sequence[str], position: int) -> bool:
    word = texts[position].strip().lower()
    if word in _NEGATIONS or "".join(texts[position + 1 : position + 2]).lower() in _NEGATIONS:
        return True
    has_letters = len(word) > 1 and any(letter.isalpha() for letter in word)
    return has_letters and word not in FUNCTION_WORDS and not _continues(texts, position)


def _continues(texts: Sequence[str], position: int) -> bool:
    """Whether a token goes on with the word before it."""
    return position > 0 and texts[position][:1].isalpha() and texts[position - 1][-1:].isalpha()
