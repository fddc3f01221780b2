from dataclasses import FrozenInstanceError

import pytest

from moored.errors import InputError
from moored.selection import RULES, DrawingRule, GradientSelection


def test_the_published_rule_is_the_default():
    assert GradientSelection().make_rule() == RULES["moderate"](keep=0.2)


@pytest.mark.parametrize("name", RULES)
def test_it_hands_its_settings_to_the_rule(name):
    rule = GradientSelection(keep=0.3, rule=name, seed=7).make_rule()
    assert type(rule) is RULES[name] and rule.keep == 0.3
    assert not isinstance(rule, DrawingRule) or rule.seed == 7


def test_it_is_frozen_and_says_what_it_is():
    selection = GradientSelection(keep=0.3, rule="low")
    assert repr(selection) == "GradientSelection(keep=0.3, rule='low', seed=0)"
    with pytest.raises(FrozenInstanceError):
        selection.keep = 0.5


@pytest.mark.parametrize("keep", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_outside_its_range_is_refused_at_once(keep):
    with pytest.raises(InputError, match="keep"):
        GradientSelection(keep=keep)


def test_an_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="no selection rule middling; the rules are moderate, low, high"):
        GradientSelection(rule="middling")
