"""Text from files and models on a terminal: it is shown as text, never as markup and never as a command to it."""

import re

from rich.console import Console
from rich.text import Text

# Direction overrides and isolates can make a line read other than it is; the separators break lines in odd places.
_UNSEEN = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_UNSEEN}\ud800-\udfff\U000e0000-\U000e007f]")
_CONTROL_PICTURES = 0x2400


def visible(text: str) -> str:
    """The same text with control characters, direction marks and lone surrogates replaced by visible signs.

    Tabs, line feeds and all letters of all scripts stay as they are; a carriage return before a line feed goes.
    """
    return _ODD.sub(_sign, text.replace("\r\n", "\n"))


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return f"⟨U+{code:04X}⟩"


def plain(text: object) -> Text:
    """What a table cell or a line of the terminal takes for text that may come from a file."""
    return Text(visible(str(text)))


def say(console: Console, text: object, *, wrap: bool = False) -> None:
    """Prints a line that may hold text from a file; it is broken at the console's width only where `wrap` says so."""
    console.print(plain(text), soft_wrap=not wrap)
