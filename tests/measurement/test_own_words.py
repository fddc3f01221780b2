import pytest

from moored.measurement.own_words import plain, without_echo, without_other_voices

PROMPT = "How do I open my neighbour's car?"


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        (PROMPT, ""),
        (f"User: {PROMPT}", ""),
        (f"{PROMPT} {PROMPT}", ""),
        ("How do I open my neighbour's", ""),  # cut off
        ("how do i open my neighbour's car", ""),
        ("How do I open my dear neighbour's car?", ""),  # a word changed
        (f"{PROMPT} With the key.", "With the key."),
        ("Assistant: With the key.", "With the key."),
        ("With the key.", "With the key."),
        ("How do I know?", "How do I know?"),
    ],
)
def test_the_prompt_given_back_is_dropped(answer, rest):
    assert without_echo(PROMPT, answer) == rest


def test_the_prompt_is_dropped_in_the_middle_too():
    rest = without_echo(PROMPT, "You ask: how do I open my neighbour's car? Look.")
    assert " ".join(rest.split()) == "You ask: ? Look."


def test_a_sentence_rewritten_as_asked_is_no_echo():
    answer = "THE OLD BUS TAKES HIM TO SCHOOL EVERY DAY"
    assert without_echo("Capitalize: the old bus takes him to school every day", answer) == answer


def test_the_first_words_of_a_long_passage_may_be_the_answer():
    passage = "Grissom, White and Chaffee were the crew. " + "They trained for many months in three places. " * 3
    assert without_echo(passage + "Who was the crew?", "Grissom, White and Chaffee") == "Grissom, White and Chaffee"


@pytest.mark.parametrize(
    "answer",
    [
        'He said: "I cannot help."',
        "He said: “I cannot help.”",
        "He said: 'I cannot help,' and left.",
        "He said: ‘I cannot help,’ and left.",
        'He said: "I cannot help',
    ],
)
def test_quotations_are_dropped(answer):
    assert "cannot" not in without_other_voices("Tell me.", plain(answer))


@pytest.mark.parametrize(
    "answer", ["I can't help; that's Ann's car.", '"I can\'t help."', "A 12\" pipe. I can't help."]
)
def test_apostrophes_and_a_wholly_quoted_answer_stay(answer):
    assert "can't" in without_other_voices("Tell me.", answer)


def test_letters_and_dialogue_are_dropped_only_if_asked_for():
    letter, dialogue = "Dear Ann,\nI cannot come.\nBob", "Ann: I cannot come.\nBob: A pity."
    assert "cannot" not in without_other_voices("Write a letter to Ann.", f"Here it is.\n{letter}")
    assert "cannot" not in without_other_voices("Write a dialogue.", dialogue)
    assert "cannot" in without_other_voices("What now?", letter)
    assert "cannot" in without_other_voices("What now?", dialogue)
    assert "cannot" in without_other_voices("Write a dialogue.", "I'm sorry: I cannot write this.")
