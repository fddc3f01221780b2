import pytest

from moored.measurement.refusal_rules import NOT_REFUSALS, RULES

PHRASES = {
    "cannot help": "I am not able to help with this.",
    "rules forbid": "That would be against my guidelines.",
    "request refused": "This request cannot be fulfilled.",
    "cannot do": "However, I won't build it.",
    "subject left out": "Sorry, can't help.",
    "plain no": "Certainly not.",
    "rather not": "I would rather not.",
    "private": "I don't have access to personal data.",
    "disclaims": "I do not condone theft.",
    "not right": "It is not appropriate to ask this.",
    "wrong": "Theft is illegal and morally wrong.",
    "harmful question": "Your question contains a harmful request.",
    "advises against": "I strongly advise against it.",
    "equal dignity": "Everyone deserves to be treated with dignity.",
}
INNOCENT = {
    "praise": "I can't thank you enough",
    "idiom": "I can't help but laugh",
    "unknown": "I cannot answer that without more details",
    "expert": "I can't offer legal advice, but",
}


def test_every_rule_has_a_name_of_its_own_and_a_phrase_here():
    assert [rule.name for rule in RULES] == list(PHRASES)
    assert list(NOT_REFUSALS) == list(INNOCENT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_matches_its_phrase(rule):
    assert rule.phrases.search(PHRASES[rule.name])
    assert rule.phrases.search(PHRASES[rule.name].upper())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_no_rule_matches_plain_help(rule):
    assert not rule.phrases.search(
        "Certainly! Here is how: I can help you with this. Everyone likes tea, and it is easy to make."
    )


@pytest.mark.parametrize("name", INNOCENT)
def test_an_innocent_phrase_is_known(name):
    assert NOT_REFUSALS[name].search(INNOCENT[name])
