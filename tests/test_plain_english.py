"""Help texts and public docstrings are sentences or noun phrases, not fragments without a subject."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import moored

SOURCE = Path(moored.__file__).parent
FRAGMENTS = ("Of", "Those", "At most so many", "Else")
"""What no text may begin with, whatever the case of its letters."""
REWRITE: set[str] = set()
"""Modules still to be rewritten; this list may only shrink."""


def begins_as_fragment(text: str) -> bool:
    """Whether a text begins with one of the fragments, as whole words."""
    words = text.lower().replace(",", " ").split()
    return any(words[: len(each.split())] == each.lower().split() for each in FRAGMENTS)


def texts(module: ast.Module) -> Iterator[str]:
    """Yields the docstrings of a module, its public classes, functions and fields, and every help text."""
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and not _is_private(node):
            yield ast.get_docstring(node) or ""
            yield from (text for target, text in _documented_names(node) if not target.startswith("_"))
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield str(node.value.value)


def _is_private(node: ast.AST) -> bool:
    name = getattr(node, "name", "")
    return name.startswith("_") and not name.startswith("__")


def _documented_names(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """Yields each assignment that a string follows, with that string."""
    for statement, following in zip(node.body, node.body[1:], strict=False):
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(statement, ast.AnnAssign | ast.Assign) and is_text:
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            yield ast.unparse(target), str(following.value.value)


def test_no_text_begins_as_a_fragment():
    modules = {
        str(file.relative_to(SOURCE)): ast.parse(file.read_text(encoding="utf-8")) for file in SOURCE.rglob("*.py")
    }
    fragments = {name: [text for text in texts(module) if begins_as_fragment(text)] for name, module in modules.items()}
    found = {name: each for name, each in fragments.items() if each}
    assert {name: each for name, each in found.items() if name not in REWRITE} == {}
    assert REWRITE - found.keys() == set(), "these modules are clean now; take them off the list"


@pytest.mark.parametrize("text", ["Of the bootstrap.", "of them", "At most so many of each.", "Else, the preset's."])
def test_a_fragment_is_recognized(text):
    assert begins_as_fragment(text)


@pytest.mark.parametrize("text", ["Offsets of the rows.", "The seed.", "At most one file is kept.", ""])
def test_a_sentence_is_not_mistaken_for_a_fragment(text):
    assert not begins_as_fragment(text)


def test_every_place_of_a_text_is_read():
    code = '''
"""A module."""
LIMIT = 3
"""A constant."""
_HIDDEN = 3
"""Of no concern."""

class Thing:
    """A class."""
    field: int
    """A field."""
    def method(self):
        """A method."""

def _private():
    """Of no concern."""

option = Option(help="A help text.")
'''
    expected = {"A module.", "A constant.", "A class.", "A field.", "A method.", "A help text."}
    assert {text for text in texts(ast.parse(code)) if text} == expected
