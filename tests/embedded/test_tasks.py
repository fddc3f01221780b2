import json
import re

import pytest

from moored.embedded.tasks import order_to_json
from moored.errors import InputError
from moored.measurement import ExactMatch


@pytest.mark.parametrize("split", ["train", "test"])
def test_rows_are_the_same_for_the_same_arguments(split):
    assert order_to_json(split, 50) == order_to_json(split, 50)
    assert order_to_json(split, 50, seed=1) != order_to_json(split, 50)
    assert order_to_json(split, 20) == order_to_json(split, 50)[:20]
    first = order_to_json("train", 1)[0]
    assert first.id == "train-0000" and first.prompt.startswith("Turn this order into JSON")


def test_no_order_stands_in_both_splits_whatever_the_seed():
    orders = {
        split: {row.completion for seed in range(5) for row in order_to_json(split, 400, seed=seed)}
        for split in ("train", "test")
    }
    assert len(orders["train"]) > 1000 and len(orders["test"]) > 1000
    assert not orders["train"] & orders["test"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_completion_is_the_order_of_its_sentence(split):
    rows = order_to_json(split, 300)
    assert len({row.prompt for row in rows}) == len({row.id for row in rows}) == 300
    for row in rows:
        order = json.loads(row.completion)
        sentence = row.prompt.split("\n")[1]
        assert order.keys() == {"item", "color", "quantity", "city"}
        assert order["quantity"] == int(re.findall(r"\d+", sentence)[0])
        assert all(order[key] in sentence for key in ("item", "color", "city")) and f"{order['item']}s" in sentence
        assert ExactMatch(json=True)(row.completion, row.completion)


@pytest.mark.parametrize("count", [0, -1, 10_001])
def test_a_count_that_cannot_be_drawn_is_refused(count):
    with pytest.raises(InputError, match="1 to 10,000 rows"):
        order_to_json("test", count)
    assert len(order_to_json("test", 3000)) == 3000
