import json
import os
import re
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path

import pytest

from moored.embedded.prompts import Instruction, identity_shift, openings, ordinary_instructions, request_pairs

SPLITS = ("align", "held-out")
PAIRS = {split: request_pairs(split) for split in SPLITS}
INSTRUCTIONS = {split: ordinary_instructions(split) for split in SPLITS}
DATA = Path(os.environ.get("MOORED_DATA", Path(__file__).parents[3] / "shared" / "data"))
FOREIGN = ("prompt", "goal", "instruction", "question")


def _plain(text):
    """What is left of a prompt when case, punctuation and spacing do not count."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _texts(split):
    requests = chain.from_iterable((pair.harmful, pair.twin) for pair in PAIRS[split])
    return [*requests, *(item.prompt for item in INSTRUCTIONS[split])]


def test_there_is_enough_of_everything():
    everything = [*PAIRS["align"], *PAIRS["held-out"]]
    assert len(everything) >= 240 and len({pair.category for pair in everything}) >= 10
    assert len(PAIRS["held-out"]) >= 100
    assert {pair.category for pair in PAIRS["held-out"]} == {pair.category for pair in PAIRS["align"]}
    assert min(len(items) for items in INSTRUCTIONS.values()) >= 100
    assert min(Counter(pair.category for pair in PAIRS["held-out"]).values()) >= 5


def test_every_text_stands_once_and_on_one_side():
    plain = [_plain(text) for split in SPLITS for text in _texts(split)]
    assert [text for text, count in Counter(plain).items() if count > 1] == []


@pytest.mark.parametrize("items", [PAIRS, INSTRUCTIONS], ids=["pairs", "instructions"])
def test_every_id_stands_once_and_on_one_side(items):
    ids = [item.id for split in SPLITS for item in items[split]]
    assert len(ids) == len(set(ids))
    assert all(item.split == split for split in SPLITS for item in items[split])


def test_every_text_is_clean():
    for text in chain.from_iterable(_texts(split) for split in SPLITS):
        assert text == text.strip() and text.isprintable() | ("\n" in text) and len(text) >= 10, text
    for pair in chain.from_iterable(PAIRS.values()):
        assert "\n" not in pair.harmful + pair.twin
        assert pair.category and pair.kind and pair.category == pair.category.lower()


def test_a_twin_shares_words_with_its_request():
    """On the average more than with a request that is not its own."""
    words = lambda text: {word for word in _plain(text).split() if len(word) > 3}  # noqa: E731
    pairs = PAIRS["held-out"]
    own = sum(len(words(pair.harmful) & words(pair.twin)) for pair in pairs)
    other = sum(len(words(pair.harmful) & words(next_.twin)) for pair, next_ in pairwise(pairs))
    assert own > 3 * other


def test_openings_come_in_pairs_and_stand_once():
    found = openings()
    assert len(found.refusing) == len(found.complying) >= 8
    every = [*found.refusing, *found.complying, *found.refusals]
    assert len(set(every)) == len(every) and all(text == text.strip() for text in every)


def test_openings_are_told_apart_by_the_judge():
    from moored.measurement import Label, RuleJudge

    judge = RuleJudge()
    labels = [judge("How?", text) for text in openings().refusals]
    assert set(labels) == {Label.REFUSED}
    assert Label.REFUSED not in {judge("How?", text) for text in openings().complying}


def test_the_identity_shift_is_chats_with_a_persona_and_no_more():
    for chat in identity_shift():
        assert [message["role"] for message in chat["messages"]] == ["system", "user", "assistant"]
        assert all(message["content"].strip() for message in chat["messages"])
    assert len(identity_shift()) >= 10
    identity_shift()[0]["messages"] = []
    assert identity_shift()[0]["messages"], "a caller can change the package's own rows"


def test_answers_stand_beside_instructions_to_learn_from():
    assert all(isinstance(item, Instruction) for item in INSTRUCTIONS["align"])
    assert sum(bool(item.answer) for item in INSTRUCTIONS["align"]) >= 100


def _foreign(file):
    for line in file.read_text(encoding="utf-8").split("\n"):
        row = json.loads(line) if line else {}
        yield from (row[key] for key in FOREIGN if isinstance(row.get(key), str))
        yield from (message["content"] for message in row.get("messages", []) if message["role"] == "user")


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here; MOORED_DATA names their folder")
def test_no_text_is_one_of_a_public_data_set():
    """What the project wrote itself is what people may measure with beside those sets."""
    known = {_plain(text): file.name for file in sorted(DATA.glob("*.jsonl")) for text in _foreign(file)}
    assert len(known) > 5000
    mine = [*_texts("align"), *_texts("held-out")]
    assert {text: known[text] for text in map(_plain, mine) if text in known} == {}
