"""Reasoning that a model writes before its answer: it is told apart here, and is no part of the answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reasoning:
    """How a model marks its reasoning."""

    start: str
    end: str

    def split(self, text: str, *, begun: bool = False) -> tuple[str, str | None]:
        """Splits what a model wrote into its reasoning and its answer, which together are the text.

        Args:
            text: what the model wrote, with the marks.
            begun: whether the prompt has opened the reasoning already.

        Returns:
            The reasoning with its marks, empty where there is none, and the answer; None where the text ends before
            the reasoning does.
        """
        _, mark, answer = text.rpartition(self.end)
        if mark:
            answer = answer.lstrip()
            return text[: len(text) - len(answer)], answer
        return (text, None) if begun or self.opens(text) else ("", text)

    def opens(self, text: str) -> bool:
        """Whether a text begins with reasoning, or breaks off within the mark that would open it."""
        beginning = text.lstrip()
        return beginning.startswith(self.start) or bool(beginning and self.start.startswith(beginning))

    def begun_by(self, prompt: str) -> bool:
        """Whether a rendered prompt ends with the mark that opens the reasoning."""
        return prompt.rstrip().endswith(self.start)


THINK = Reasoning("<think>", "</think>")
"""The marks that most models have."""
KNOWN = (
    # Harmony: whatever is on another channel than the final one is no answer.
    Reasoning("<|channel|>", "<|channel|>final<|message|>"),
    THINK,
    Reasoning("[THINK]", "[/THINK]"),
    Reasoning("<|START_THINKING|>", "<|END_THINKING|>"),
    Reasoning("<|channel>", "<channel|>"),
    Reasoning("<seed:think>", "</seed:think>"),
    Reasoning("<thinking>", "</thinking>"),
    Reasoning("<thought>", "</thought>"),
    Reasoning("<reasoning>", "</reasoning>"),
    Reasoning("<|begin_of_thought|>", "<|end_of_thought|>"),
    Reasoning("◁think▷", "◁/think▷"),
    Reasoning("Here is my thought process:", "Here is my response:"),
)
"""The marks of public model families."""


def spoken_part(text: str) -> str:
    """What stands behind the last end of reasoning of any known kind: what a template surely keeps of an answer."""
    for marks in KNOWN:
        text = text.rpartition(marks.end)[2]
    return text


def without_marks(reasoning: str) -> str:
    """The thoughts alone; nothing in an empty block."""
    for marks in KNOWN:
        reasoning = reasoning.replace(marks.end, "").replace(marks.start, "")
    return reasoning.strip()
