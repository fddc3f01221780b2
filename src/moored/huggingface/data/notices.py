"""What is said once of rows that are learned otherwise than somebody may expect."""

import logging
from dataclasses import dataclass, field

from moored.huggingface.data.unread import UnreadKeys

_FORGETFUL = "the chat template takes the thoughts out of earlier turns, so those turns are not learned (row {}, say)."
_UNREAD = "the rendering does not change with {}, so nothing of it is learned."

_logger = logging.getLogger(__name__)


@dataclass
class Notices:
    """What was noticed in the rows of one dataset so far."""

    keys: UnreadKeys = field(default_factory=UnreadKeys)
    forgetful: int | None = None
    """The number of a row with turns that are not learned, because their thoughts are gone."""
    _said: set[str] = field(default_factory=set)

    def sentences(self) -> list[str]:
        """What was not said before."""
        new = {str(key): number for key, number in self.keys.rows.items() if str(key) not in self._said}
        self._said.update(new)
        named = ", ".join(f"{key} (row {number}, say)" for key, number in new.items())
        sentences = [_UNREAD.format(named)] if new else []
        if self.forgetful is not None and _FORGETFUL not in self._said:
            self._said.add(_FORGETFUL)
            sentences.append(_FORGETFUL.format(self.forgetful))
        return sentences


def say(sentences: list[str], where: str) -> None:
    """Warns of what was noticed in the data of this name."""
    for sentence in sentences:
        _logger.warning("%s: %s", where, sentence)
