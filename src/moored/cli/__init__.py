"""The command line: one file per command, each reads its arguments, calls one workflow and prints."""

import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from moored import __version__
from moored.cli.demo import demo_command
from moored.cli.inspect import inspect_app
from moored.cli.judge import judge_command
from moored.cli.measure import measure_command
from moored.cli.recover import recover_command
from moored.cli.report import report_command
from moored.cli.safeguards import safeguards_command
from moored.cli.select import select_command
from moored.cli.train import train_command
from moored.errors import MooredError, UserError
from moored.terminal import plain

_INTERRUPTED = 130

app = typer.Typer(
    name="moored",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("demo")(demo_command)
app.command("measure")(measure_command)
app.command("select")(select_command)
app.command("train")(train_command)
app.command("safeguards")(safeguards_command)
app.command("recover")(recover_command)
app.command("judge")(judge_command)
app.command("report")(report_command)
app.add_typer(inspect_app, name="inspect")


def _print_version(asked: bool | None) -> None:
    if asked:
        typer.echo(f"moored {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = None,
) -> None:
    """Keep a language model's safety alignment while you fine-tune it."""


# typer carries its own copy of click and makes public only this class's subclass.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Runs the command line: exit 0 done, 1 a defect of ours, 2 the user can fix it, 3 the gate failed."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        code = app(prog_name="moored", standalone_mode=False)
    except MooredError as error:
        _complain(str(error))
        code = error.exit_code
    except _UsageError as error:
        _complain_of_usage(error)
        code = UserError.exit_code
    # typer turns Ctrl-C into this code by itself; ours comes from code that is not run by it.
    except KeyboardInterrupt:
        code = _INTERRUPTED
    if code == _INTERRUPTED:
        _complain("interrupted; repeat the same command to resume measure or demo, add --resume for train and select.")
    sys.exit(code if isinstance(code, int) else 0)


def _complain_of_usage(error: Any) -> None:
    # Without arguments typer has printed the help already, and there is no message.
    if message := error.format_message():
        command = error.ctx.command_path if error.ctx is not None else "moored"
        message = message.replace(". Did you mean", "; did you mean").rstrip(".?")
        _complain(f"{message}; see `{command} --help`.")


def _complain(sentence: str) -> None:
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print("[red]moored:[/red]", plain(sentence))
