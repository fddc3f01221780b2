import json

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from moored.errors import UserError
from moored.measurement import ExactMatch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("answer", "equal"),
    [(" two  cups\n", True), ("two cups", True), ("two cups.", False), ("Two cups", False), ("", False)],
)
def test_text_is_compared_but_for_white_space(answer, equal):
    assert ExactMatch()(answer, "two cups") is equal


@pytest.mark.parametrize(
    ("answer", "equal"),
    [
        ('{"item": "tea", "n": 2, "hot": true}', True),
        ('Sure!\n```json\n{"hot": true,\n "n": 2.0, "item": "tea"}\n```\nEnjoy.', True),
        ('{"item": "tea", "n": 2}', False),
        ('{"item": "tea", "n": 2, "hot": 1}', False),
        ('{"item": "tea", "n": "2", "hot": true}', False),
        ('{"item": "tea", "n": 2, "hot": true', False),
        ('{broken {"item": "tea", "n": 2, "hot": true}', True),
        ("tea", False),
        ("", False),
        ("[" * 100_000, False),
        ("1" * 10_000, False),
    ],
)
def test_json_is_compared_by_value(answer, equal):
    assert ExactMatch(json=True)(answer, '{"n": 2, "item": "tea", "hot": true}') is equal


def test_the_order_of_a_json_array_counts():
    match = ExactMatch(json=True)
    assert match("[1, {}]", "[1, {}]")
    assert not match("[{}, 1]", "[1, {}]")
    assert not match("[1, {}, 1]", "[1, {}]")


def test_the_expected_json_must_be_json():
    with pytest.raises(UserError, match="two cups"):
        ExactMatch(json=True)("{}", "two cups")


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.lists(JSON, max_size=4))
def test_json_equals_itself(value):
    assert ExactMatch(json=True)(json.dumps(value, indent=3), json.dumps(value))


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_no_answer_raises(answer):
    assert ExactMatch(json=True)(answer, '{"n": 2}') in (True, False)
