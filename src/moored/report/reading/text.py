"""Making text from models and files safe to show: everything odd becomes visible, nothing is dropped."""

import re

# Direction overrides and isolates can make a line read other than it is; the separators break lines in odd places.
_UNSEEN = "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
_ODD = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_UNSEEN}\ud800-\udfff\U000e0000-\U000e007f]")
_CONTROL_PICTURES = 0x2400


def visible(text: str) -> str:
    """The same text with control characters, direction marks and lone surrogates replaced by visible signs.

    Tabs, line feeds and all letters of all scripts stay as they are; a carriage return before a line feed goes.
    """
    return _ODD.sub(_sign, text.replace("\r\n", "\n"))


def shortened(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many were left off."""
    return text[:limit], max(0, len(text) - limit)


def _sign(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\ufffd"
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return f"⟨U+{code:04X}⟩"
