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


def test_an_answer_is_past_its_reasoning_from_the_end_mark_on():
    thought, length = ids_of(THOUGHT), _length(4, 200)
    past = [length.is_reached(0, thought[:end]) or length.is_past_reasoning(0) for end in range(1, len(thought) + 1)]
    assert past == [False] * (len(thought) - 1) + [True]


def test_a_plain_answer_is_past_its_reasoning():
    for reasoning in (0, 200):
        length = _length(4, reasoning)
        assert not length.is_reached(0, ids_of("Paris"))
        assert length.is_past_reasoning(0)
