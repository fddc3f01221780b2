"""`moored inspect`: what can be looked at in a model and its data."""

import typer

from moored.cli.inspect_basin import inspect_basin_command
from moored.cli.inspect_gradients import inspect_gradients_command
from moored.cli.inspect_spectrum import inspect_spectrum_command

inspect_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Numbers and plots of a model.")
inspect_app.command("gradients")(inspect_gradients_command)
inspect_app.command("basin")(inspect_basin_command)
inspect_app.command("spectrum")(inspect_spectrum_command)


@inspect_app.callback()
def inspect_options() -> None:
    """Numbers and plots: what gradients depend on, the spectrum of a safety example's, and how far safety reaches."""
