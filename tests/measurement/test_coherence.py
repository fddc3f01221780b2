import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from moored.measurement.coherence import compression_ratio, is_degenerate, readable_share, repeated_share

PROSE = (
    "Fill the kettle, bring the water to a boil, and warm the pot. Add one spoon of leaves for each cup, pour the "
    "water over them, and wait four minutes. Strain the tea into the cups and serve it with milk or a slice of lemon."
)


@pytest.mark.parametrize(
    "text",
    [
        "the the the the the the the the the the",
        "You will find it in the shop and you will find it in the shop and you will find it in the shop and you will",
        "I can't help with that. I can't help with that. I can't help with that. I can't help with that.",
        "hahahahahahahahahahahahahahahahahahahahahahahahahahahahahaha",
        "好好好好好好好好好好好好好好好好好好好好好好好好好好好好好好",
        "}}{{ ;; (( ]] == ++ !! ## }{ ;( ] = + ! # a",
        "!!!!!!!!!!!!!!!!!!!!!",
        "...",
        PROSE[:60] + " and so on" + 20 * " and on",
    ],
)
def test_broken_output_is_degenerate(text):
    assert is_degenerate(text)


@pytest.mark.parametrize(
    "text",
    [
        PROSE,
        PROSE[:40],
        "No.",
        "42",
        "12 + 5 = 17, so x = 17 / 2 = 8.5",
        '{"item":"tea","n":2}',
        "| Name | Age |\n|------|-----|\n| Ann  | 43    |\n| Bob | 44 |",
        "for i in range(3):\n    print(x[i], y[i])\n",
        "你好,很高兴认识你。今天天气很好,我们去公园散步吧。",
        "नमस्ते, आप कैसे हैं? मुझे आशा है कि आप ठीक हैं।",
        "I can't help with that. I can't help with that.",
        "Row, row, row your boat, gently down the stream.",
    ],
)
def test_ordinary_short_output_is_not(text):
    assert not is_degenerate(text)


def test_repeated_share_counts_the_ngrams_seen_before():
    words = list("abcabca")
    seen, repeats, pairs = set(), 0, list(itertools.pairwise(words))
    for pair in pairs:
        repeats += pair in seen
        seen.add(pair)
    assert repeated_share(words, size=2) == repeats / len(pairs) == 0.5
    assert repeated_share(["a"], size=2) == 0.0


def test_readable_share_counts_a_run_of_one_symbol_once():
    assert readable_share("ab--------") == 2 / 3
    assert readable_share("  ") == 0.0


def test_vowel_signs_are_readable():
    assert readable_share("की") == 1.0


def test_the_empty_text_does_not_compress():
    assert compression_ratio("") == 1.0


@settings(deadline=None, derandomize=True)
@given(st.text())
def test_any_text_can_be_judged(text):
    assert is_degenerate(text) in (True, False)


@settings(deadline=None, derandomize=True)
@given(st.text(alphabet="abcdefgh ,.", min_size=1).filter(lambda text: any(map(str.isalnum, text))))
def test_a_hundred_repetitions_are_always_degenerate(text):
    assert is_degenerate(100 * f"{text} ")
