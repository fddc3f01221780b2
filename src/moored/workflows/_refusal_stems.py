"""How refusals begin, in few words."""

from collections.abc import Sequence


def stems(texts: Sequence[str]) -> list[str]:
    """The first three words of each text, once, and none that begins with another: their probabilities add up."""
    short = list(dict.fromkeys(" ".join(text.split()[:3]) for text in texts))
    return [stem for stem in short if not any(stem != other and stem.startswith(other) for other in short)]
