from tests.huggingface.inference.chats import TOKENIZER, ids_of

from moored.huggingface.inference.answer_length import answer_length

THOUGHT = "<think>It is Paris.</think>"


def _length(most: int, reasoning: int):
    return answer_length(TOKENIZER, ["Hi"], [ids_of("Hi")], most=most, reasoning=reasoning, context=None)


def _reached(length, answer: list[int]) -> int:
    """Returns the number of tokens with which the answer has had its room."""
    return next(end for end in range(1, len(answer) + 1) if length.is_reached(0, answer[:end]))


def test_room_counts_from_the_end_of_the_reasoning():
    thought = ids_of(THOUGHT)
    assert _reached(_length(4, len(thought) + 50), thought + [40] * 60) == len(thought) + 4


def test_no_answer_is_longer_than_both_rooms():
    thought = ids_of(THOUGHT)
    length = _length(4, len(thought) - 2)
    assert _reached(length, thought + [40] * 60) == length.longest == len(thought) + 2
