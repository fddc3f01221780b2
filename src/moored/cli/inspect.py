"""`moored inspect`: what can be looked at in a model and its data."""

import typer

from moored.cli.inspect_gradients import inspect_gradients_command
from moored.cli.inspect_spectrum import inspect_spectrum_command

inspect_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Numbers and plots of a model.")
inspect_app.command("gradients")(inspect_gradients_command)
inspect_app.command("spectrum")(inspect_spectrum_command)


@inspect_app.callback()
def inspect_options() -> None:
    """Numbers and plots: what a model's gradients depend on, and how few directions a safety example's has."""
