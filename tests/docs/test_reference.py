"""The generated reference leaves out no command, option, setting, safeguard or public name."""

import importlib
from pathlib import Path

import pytest

import moored
from moored.cli import app
from moored.workflows.safeguards.catalogue import SAFEGUARDS

SITE = Path(__file__).parents[2] / "docs" / "site"


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(str(SITE))
    return importlib.import_module("reference")


def test_every_command_has_a_page_with_all_of_its_options(reference):
    commands = reference.commands_of(app)
    assert {"measure", "train", "recover", "inspect basin"} <= {name for name, _ in commands}
    for name, command in commands:
        title, text = reference.pages()[f"reference/{name.replace(' ', '-')}.md"]
        assert title == f"moored {name}" and command.help.partition("\n")[0] in text
        for each in command.params:
            if each.name == "help":
                continue
            assert f"| `{reference._flag(each)}` | " in text and each.help


def test_all_settings_are_those_of_a_command(reference):
    taken = {reference.settings_of(command) for _, command in reference.commands_of(app)}
    assert reference.all_settings() and reference.all_settings() <= taken


def test_every_public_name_and_every_safeguard_is_described(reference):
    python, safeguards = (reference.pages()[f"reference/{page}.md"][1] for page in ("python", "safeguard-keys"))
    assert [name for name in moored.__all__ if name != "__version__" and f"\n## {name}\n" not in python] == []
    assert [name for name in SAFEGUARDS if f"\n## {name}\n" not in safeguards] == []


def test_the_overview_links_to_every_command(reference):
    overview = reference.pages()["reference/index.md"][1]
    for name, _ in reference.commands_of(app):
        assert f"[`moored {name}`]({name.replace(' ', '-')}.md)" in overview


def test_a_cell_keeps_to_its_row(reference):
    assert reference._table(("a", "b"), [("one\ntwo", "x | y")]).splitlines()[2] == "| one two | x \\| y |"
