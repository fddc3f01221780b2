from typer import Typer
from typer.testing import CliRunner

from moored.cli.safeguards import safeguards_command
from moored.workflows.safeguards.catalogue import SAFEGUARDS


def _invoke(*arguments):
    app = Typer()
    app.command()(safeguards_command)
    return CliRunner().invoke(app, list(arguments))


def test_all_safeguards_are_listed_with_their_keys():
    printed = _invoke().output
    assert all(name in printed for name in SAFEGUARDS)
    assert "required" in printed and "0.2" in printed and "gradient_ratio" not in printed


def test_one_is_listed_alone():
    printed = _invoke("update_norm").output
    assert "update_norm" in printed and "relative" in printed and "safety_tokens" not in printed
