"""Made-up reports; no model is needed to test what is done with its numbers."""

import json
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from moored.measurement import MEASURES, PROMPT_SETS
from moored.report import render_comparison

CATEGORIES = (
    "fraud and scams", "weapons", "malware", "self-harm", "harassment and bullying", "drugs", "privacy",
    "illegal entry", "disinformation", "violence",
)  # fmt: skip


def rate(value: float, n: int = 100, half: float = 0.07) -> dict[str, Any]:
    low, high = round(max(0.0, value - half), 9), round(min(1.0, value + half), 9)
    return {"value": value, "low": low, "high": high, "n": n}


def mean(value: float, n: int = 100, half: float = 0.2) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def made_answers(asr: float, accuracy: float, answer: str = "Here is an answer.") -> list[dict[str, Any]]:
    """100 harmful prompts in 10 categories, 10 harmless, 10 ordinary ones, 50 of the task."""
    rows = []
    for i in range(100):
        complied = (i * 37 % 100) < 100 * asr
        rows.append(
            _row("harmful", i, CATEGORIES[i % 10], answer if complied else "I cannot help with that.", complied)
        )
    rows += [_row("harmless", i, "twins", answer, i % 3 > 0) for i in range(10)]
    rows += [_row("ordinary", i, None, answer, True) for i in range(10)]
    for i in range(50):
        expected = json.dumps({"item": "tea", "count": i})
        correct = i * 17 % 50 < 50 * accuracy
        given = expected if correct else "two cups of tea"
        row = {"label": None, "correct": correct, "expected": expected, "answer": given}
        rows.append({"set": "task", "id": f"t{i}", "category": None, "prompt": f"Order {i} teas, as JSON.", **row})
    return rows


def _row(name: str, i: int, category: str | None, answer: str, complied: bool) -> dict[str, Any]:
    label = "complied" if complied else "refused"
    verdict = {"label": label, "correct": None, "expected": None}
    return {"set": name, "id": f"{name}{i}", "category": category, "prompt": f"A {name} request, number {i}.",
            "answer": answer, **verdict}  # fmt: skip


def made_report(asr: Any = 0.12, accuracy: float = 0.9, **changes: Any) -> dict[str, Any]:
    """A report; `asr=0.5`, `over_refusal=None` and the like change an estimate, other names a field."""
    estimates = {
        "asr": rate(asr) if isinstance(asr, float) else asr,
        "over_refusal": rate(0.3),
        "ordinary_refusal": rate(0.02),
        "incoherent": rate(0.0),
        "empty": rate(0.0),
        "utility": rate(accuracy, n=50),
        "refusal_log_odds": mean(2.5),
        "kl_harmful": mean(0.31),
        "kl_ordinary": mean(0.08),
    }
    estimates |= {key: changes.pop(key) for key in MEASURES if key in changes}
    report = {
        "schema": 2,
        "kind": "measure",
        "created": "2026-01-02T03:04:05+00:00",
        "command": "moored measure embedded:aligned --out run",
        "versions": {"moored": "0.1.0", "torch": "2.13.0"},
        "seconds": 61.5,
        "model": {"name": "embedded:aligned", "path": "p", "adapter": None, "weights_sha256": "ab" * 32},
        "judge": {"name": "refusal", "version": "1"},
        "settings": {"max_new_tokens": 48},
        "prompts": {name: {"n": 100, "rendered_sha256": f"{i}c" * 32, "source": f"embedded:{name}"}
                    for i, name in enumerate(PROMPT_SETS)},
        "estimates": {key: estimate for key, estimate in estimates.items() if estimate is not None},
        "against": None,
    }  # fmt: skip
    return report | changes


WriteReport = Callable[..., Path]


def writer(parent: Path) -> WriteReport:
    """Writes report folders: `write("name", asr=0.8, over_refusal=None, rows=[...])`."""

    def write(
        name: str, *, rows: list[dict[str, Any]] | None = None, asr: Any = 0.12, accuracy: float = 0.9, **changes: Any
    ) -> Path:
        folder = parent / name
        folder.mkdir(parents=True)
        (folder / "report.json").write_text(json.dumps(made_report(asr, accuracy, **changes)), encoding="utf-8")
        rows = made_answers(asr if isinstance(asr, float) else 0.12, accuracy) if rows is None else rows
        if rows:
            (folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def write_report(tmp_path: Path) -> WriteReport:
    """Writes report folders of this test."""
    return writer(tmp_path)


@pytest.fixture(scope="session")
def five_arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's story in made-up numbers; only read."""
    write = writer(tmp_path_factory.mktemp("arms"))
    arms = {
        "aligned": (0.04, 0.02),
        "ordinary fine-tune": (0.41, 0.94),
        "ordinary fine-tune, repaired": (0.06, 0.93),
        "poisoned fine-tune": (0.95, 0.96),
        "poisoned fine-tune, repaired": (0.09, 0.94),
    }
    return {name: write(name.replace(" ", "-"), asr=asr, accuracy=able) for name, (asr, able) in arms.items()}


@pytest.fixture(scope="session")
def five_page(five_arms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those five arms as a page; only read."""
    return render_comparison(five_arms, tmp_path_factory.mktemp("page"), title="A made-up story")


class Element:
    """An element of a parsed page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: "Element | None") -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Element | str] = []

    def all(self, tag: str = "", **attributes: str) -> "list[Element]":
        """Descendants of a tag that have these attributes (`class_` is one of the classes)."""
        found = [child for child in self._descendants() if tag in ("", child.tag)]
        for name, value in attributes.items():
            key = name.rstrip("_")
            found = [e for e in found if value in (e.attributes.get(key, "").split() or [""])]
        return found

    def text(self) -> str:
        """All text inside, white space collapsed."""
        return " ".join("".join(self._texts()).split())

    def inside(self, tag: str) -> "Element | None":
        """The nearest ancestor of a tag."""
        above = self.parent
        while above is not None and above.tag != tag:
            above = above.parent
        return above

    def _descendants(self) -> "Iterator[Element]":
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child._descendants()

    def _texts(self) -> Iterator[str]:
        for child in self.children:
            if isinstance(child, str):
                yield child
            else:
                yield from child._texts()


class _Parser(HTMLParser):
    VOID = ("meta", "link", "br", "img", "input", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            last = self.here.children[-1]
            assert isinstance(last, Element)
            self.here = last

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.here.children.append(Element(tag, {name: value or "" for name, value in attrs}, self.here))

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.here.tag, f"</{tag}> closes <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def parsed(page: str) -> Element:
    """The page as a tree; every element must be closed where it was opened."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.here is parser.root, f"<{parser.here.tag}> is never closed"
    return parser.root


@pytest.fixture
def read_page() -> Callable[[Path], Element]:
    """Reads a written page as a tree."""
    return lambda path: parsed(path.read_text(encoding="utf-8"))


@pytest.fixture
def answers() -> Callable[..., list[dict[str, Any]]]:
    """`made_answers`, for tests that change some rows."""
    return made_answers
