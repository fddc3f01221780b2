"""The refusal keywords: tokens of an English refusal that are negations, or neither function words nor punctuation."""

from collections.abc import Sequence

# Our own list, since the lists of NLTK and scikit-learn contain "not", "no" and "cannot".
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
"""Pieces that negate the word before them: "can" is a function word, but also the first half of "can't"."""


def keyword_positions(texts: Sequence[str], most: int) -> list[int]:
    """Finds the positions, among the first `most` tokens, of keywords, their first pieces, and pieces of a negation.

    Args:
        texts: the tokens of one answer within running text, leading spaces included.
        most: the number of tokens to look at.
    """
    return [position for position in range(min(most, len(texts))) if _is_keyword(texts, position)]


def _is_keyword(texts: Sequence[str], position: int) -> bool:
    word = texts[position].strip().lower()
    if word in _NEGATIONS or "".join(texts[position + 1 : position + 2]).lower() in _NEGATIONS:
        return True
    has_letters = len(word) > 1 and any(letter.isalpha() for letter in word)
    return has_letters and word not in FUNCTION_WORDS and not _continues(texts, position)


def _continues(texts: Sequence[str], position: int) -> bool:
    """Tells whether a token continues the word before it."""
    return position > 0 and texts[position][:1].isalpha() and texts[position - 1][-1:].isalpha()
