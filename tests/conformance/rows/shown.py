"""What is learned of rows, as a text that one can read."""

from typing import Any


def shown(tokenizer: Any, rows: Any) -> list[str]:
    """Returns the text of each row, with what is learned in [[ ]]."""
    return [_shown(tokenizer, row["input_ids"], row["labels"]) for row in rows]


def _shown(tokenizer: Any, ids: list[int], labels: list[int]) -> str:
    text, start = "", 0
    for at in range(1, len(ids) + 1):
        if at == len(ids) or (labels[at] == -100) != (labels[start] == -100):
            piece = tokenizer.decode(ids[start:at], clean_up_tokenization_spaces=False)
            text += piece if labels[start] == -100 else f"[[{piece}]]"
            start = at
    return text
