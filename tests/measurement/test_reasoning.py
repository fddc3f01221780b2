"""Reasoning is told apart from the answer, and nothing of the text is lost."""

import pytest

from moored.measurement.reasoning import KNOWN, THINK, spoken_part, without_marks


@pytest.mark.parametrize("marks", KNOWN, ids=lambda marks: marks.start)
@pytest.mark.parametrize("begun", [True, False], ids=["begun by the prompt", "begun by the model"])
def test_an_answer_stands_behind_the_end_of_its_reasoning(marks, begun):
    text = f"{'' if begun else marks.start}\nWell.\n{marks.end}\n\nParis. "
    assert marks.split(text, begun=begun) == (text[: -len("Paris. ")], "Paris. ")
    unfinished = text.partition(marks.end)[0]
    assert marks.split(unfinished, begun=begun) == (unfinished, None)


@pytest.mark.parametrize("text", ["Paris.", "", "a < b", "It is <b>bold</b>."])
def test_what_does_not_begin_with_reasoning_is_an_answer(text):
    assert THINK.split(text) == ("", text)


def test_a_prompt_opens_reasoning_with_its_last_words_alone():
    assert THINK.begun_by("<|assistant|><think>\n") and not THINK.begun_by("<think>\n\n</think>\n\n")


def test_the_parts_without_marks():
    assert spoken_part("<think>a</think>\nb") == "\nb" and spoken_part("b") == "b"
    assert without_marks("<think>\n\n</think>\n\n") == "" and without_marks("<think>\na\n</think>\n\n") == "a"
