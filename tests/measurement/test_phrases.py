import pytest

from moored.measurement.phrases import compiled


def test_lists_are_written_in_and_a_tilde_is_white_space():
    pattern = compiled(r"\b i~CANNOT~HELP\b")
    assert pattern.search("Sadly, I am not able to\nassist anybody.") and not pattern.search("I can help.")


def test_a_word_in_capitals_is_a_list():
    with pytest.raises(KeyError, match="UNHEARD"):
        compiled("UNHEARD")


@pytest.mark.parametrize(
    "text", ["can't", "cannot, and will not", "am choosing not to", "'ll have to politely decline to"]
)
def test_ways_of_not_being_able(text):
    assert compiled(r"CANNOT").search(text)
