"""Labels in other people's words: which of them mean a refusal?"""

import re
from collections.abc import Iterable, Mapping

from moored.errors import InputError
from moored.measurement import Label
from moored.measurement.measures import REFUSALS

_REFUSAL = re.compile(r"refus|partial|declin|reject|deni", re.IGNORECASE)
_COMPLIANCE = re.compile(r"compl|answered|accept", re.IGNORECASE)
_NOT = re.compile(r"(?:^|[\W_])(?:not|no|non|un)(?:[\W_]+|(?=refus))", re.IGNORECASE)
_NEITHER = {*map(str, Label)} - {*map(str, REFUSALS), str(Label.COMPLIED)}
_SHOWN = 8


def refusal_of(values: Iterable[str], refused: str | None) -> Mapping[str, bool | None]:
    """Whether each value of a field of labels means a refusal; a partial one is one.

    The labels of a report that are neither, such as `incoherent`, have None.

    Args:
        values: the values that occur.
        refused: those that mean a refusal, with commas between them; None tells them by their words.

    Raises:
        InputError: a named value does not occur, or a value's words do not tell.
    """
    values = sorted(set(values))
    shown = ", ".join(values[:_SHOWN]) + (", …" if len(values) > _SHOWN else "")
    if not values:
        raise InputError("The field of labels is empty in every row; name another one.")
    if refused is not None:
        named = {name.strip() for name in refused.split(",")}
        if unknown := sorted(named - set(values)):
            raise InputError(f"No row has the label {unknown[0]}; the labels are {shown}.")
        return {value: value in named for value in values}
    meant = {value: _meaning(value) for value in values}
    if unclear := [value for value in values if meant[value] is None and value not in _NEITHER]:
        raise InputError(
            f"Whether the label {unclear[0]} means a refusal is not clear; name the labels that do, out of {shown}, "
            "with --refused."
        )
    return meant


def _meaning(value: str) -> bool | None:
    words, count = _NOT.subn("", value)
    refusal, compliance = bool(_REFUSAL.search(words)), bool(_COMPLIANCE.search(words))
    if refusal:
        return count % 2 == 0
    return count % 2 == 1 if compliance else None
