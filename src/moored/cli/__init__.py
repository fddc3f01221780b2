"""The command line: one file per command, each reads its arguments, calls one workflow and prints."""

import os
import sys

import typer
from rich.console import Console

from moored.cli.demo import demo_command
from moored.cli.measure import measure_command
from moored.cli.recover import recover_command
from moored.cli.train import train_command
from moored.errors import MooredError

app = typer.Typer(
    name="moored",
    help="Keep a language model's safety alignment while you fine-tune it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("demo")(demo_command)
app.command("measure")(measure_command)
app.command("train")(train_command)
app.command("recover")(recover_command)


def main() -> None:
    """Runs the command line: exit 0 done, 1 a defect of ours, 2 the user can fix it, 3 the gate failed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        app()
    except MooredError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]moored:[/red] {_escaped(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("moored: interrupted; nothing half-written was left.", file=sys.stderr)
        sys.exit(130)


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")
