"""`moored inspect`: diagnostics of a model and its data."""

import typer

from moored.cli.inspect_basin import inspect_basin_command
from moored.cli.inspect_gradients import inspect_gradients_command
from moored.cli.inspect_spectrum import inspect_spectrum_command

inspect_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Diagnostic plots of a model.")
inspect_app.command("gradients")(inspect_gradients_command)
inspect_app.command("basin")(inspect_basin_command)
inspect_app.command("spectrum")(inspect_spectrum_command)


@inspect_app.callback()
def inspect_options() -> None:
    """Diagnostic plots: gradients of single rows, the spectrum of the safety gradient, and the safety basin."""
