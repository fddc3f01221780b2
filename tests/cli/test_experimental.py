"""What nobody has shown to help is called experimental where it is offered."""

import pytest
from typer.testing import CliRunner

from moored.cli import app
from moored.recovery import OneShot
from moored.verbs import meanings
from moored.workflows.recover.settings import RecoverSettings
from moored.workflows.safeguards.catalogue import AUTO, describe_safeguards


@pytest.mark.parametrize("command", [["--help"], ["select", "--help"]])
def test_the_command_select(command):
    printed = " ".join(CliRunner().invoke(app, command).output.split())
    assert "Experimental: chooses the rows to train on" in printed


@pytest.mark.parametrize(
    ("settings", "name"), [(RecoverSettings, "choose_from"), (OneShot, "watch"), (OneShot, "patience")]
)
def test_settings_of_a_repair(settings, name):
    assert meanings(settings)[name].startswith("*Experimental")


def test_a_strength_that_is_found_by_short_runs():
    offered = [key for each in describe_safeguards() for key in each.keys if AUTO in key.values]
    assert offered and all(f"{AUTO} is experimental" in key.meaning for key in offered)
