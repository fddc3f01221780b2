"""Which of many prompts count."""


def flags(true: int, n: int) -> list[bool]:
    """The first `true` of n do."""
    return [True] * true + [False] * (n - true)
