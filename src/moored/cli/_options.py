"""What the commands share: arguments that mean the same in several, a console, and libraries that keep quiet."""

from pathlib import Path
from typing import Annotated

from rich.console import Console as Console
from typer import Argument, Option

AnyModel = Annotated[
    str, Argument(help="A checkpoint or adapter folder, a Hub id, `embedded:base` or `embedded:aligned`.")
]
ReportFolder = Annotated[Path, Option(help="The report folder; must be empty or absent.")]
OverlaidAdapter = Annotated[Path | None, Option(help="A PEFT folder laid over the model.")]


def quiet_libraries() -> None:
    """Silences the libraries; imported here so that `moored --help` answers at once."""
    from moored.huggingface.quiet import quiet_libraries as quiet

    quiet()
