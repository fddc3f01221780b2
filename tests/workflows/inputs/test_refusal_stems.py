from moored.embedded.prompts import openings
from moored.workflows.inputs.refusal_stems import stems


def test_no_stem_begins_another_or_a_compliant_answer():
    found = stems(openings().refusing)
    assert len(found) >= 12 and len(set(found)) == len(found)
    for stem in found:
        assert not any(stem != other and other.startswith(stem) for other in found)
        assert not any(text.startswith(stem) for text in openings().complying)


def test_stems_are_three_words_and_stand_once():
    assert stems(["I cannot help you", "I cannot help with it", "No, never"]) == ["I cannot help", "No, never"]
    assert stems(["I must", "I must decline"]) == ["I must"]
