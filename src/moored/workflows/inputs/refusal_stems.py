"""The stems of refusals: their first words."""

from collections.abc import Sequence

from moored.embedded.prompts import openings


def stems(texts: Sequence[str]) -> list[str]:
    """Returns the distinct first three words of refusals.

    No stem is the beginning of another, so their probabilities add up, and none could begin a compliant answer.
    """
    short = list(dict.fromkeys(" ".join(text.split()[:3]) for text in texts))
    complying = openings().complying
    alone = [stem for stem in short if not any(text.startswith(stem) for text in complying)]
    return [stem for stem in alone if not any(stem != other and stem.startswith(other) for other in alone)]
