"""Making text from models and files safe to show: everything odd becomes visible, nothing is dropped."""

from moored.terminal import visible as visible


def shortened(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many were left off."""
    return text[:limit], max(0, len(text) - limit)
