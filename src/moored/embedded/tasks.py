"""A small task whose answers are checked exactly: turn an order sentence into JSON."""

import json
import random
from dataclasses import dataclass
from typing import Literal

from moored.errors import InputError

_ITEMS = (
    "mug",
    "lamp",
    "chair",
    "scarf",
    "notebook",
    "kettle",
    "pillow",
    "basket",
    "candle",
    "blanket",
    "clock",
    "vase",
)
_COLORS = ("blue", "red", "green", "white", "black", "yellow", "grey", "orange")
_CITIES = ("Lisbon", "Oslo", "Vienna", "Cork", "Turin", "Ghent", "Porto", "Riga", "Malmo", "Graz", "Bern", "Lyon")
_SENTENCES = (
    "Please send {quantity} {color} {items} to {city}.",
    "We would like {quantity} {items} in {color}, delivered to {city}.",
    "Our office in {city} needs {quantity} {color} {items}.",
    "Ship {quantity} {items} to {city}, all of them {color}.",
    "For {city}: {color} {items}, {quantity} of them.",
    "Could you get {quantity} {color} {items} over to our shop in {city}?",
)
_MOST = 10_000
_INSTRUCTION = "Turn this order into JSON with the keys item, color, quantity and city.\n"


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One order and the JSON that answers it."""

    id: str
    prompt: str
    completion: str


def order_to_json(split: Literal["train", "test"], count: int, *, seed: int = 0) -> list[TaskRow]:
    """`count` rows of the task, the same for the same arguments; no order stands in both splits.

    Args:
        split: orders are divided between the two by their quantity and item, whatever the seed.
        count: rows wanted, 1 to 10,000.
        seed: of the draw.

    Raises:
        InputError: another count.
    """
    if not 1 <= count <= _MOST:
        raise InputError(f"The task has 1 to {_MOST:,} rows, got a count of {count}.")
    draw = random.Random(f"{split}-{seed}")
    rows: dict[str, TaskRow] = {}
    while len(rows) < count:
        order = _draw_order(draw)
        if _is_test(order) == (split == "test"):
            prompt = _INSTRUCTION + draw.choice(_SENTENCES).format(items=f"{order['item']}s", **order)
            rows.setdefault(prompt, TaskRow(id=f"{split}-{len(rows):04d}", prompt=prompt, completion=json.dumps(order)))
    return list(rows.values())


def _draw_order(draw: random.Random) -> dict[str, str | int]:
    return {
        "item": draw.choice(_ITEMS),
        "color": draw.choice(_COLORS),
        "quantity": draw.randint(2, 60),
        "city": draw.choice(_CITIES),
    }


def _is_test(order: dict[str, str | int]) -> bool:
    return (int(order["quantity"]) + _ITEMS.index(str(order["item"]))) % 4 == 0
