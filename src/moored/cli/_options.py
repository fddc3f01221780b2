"""What the commands share: a console, and libraries that keep quiet."""

from rich.console import Console as Console


def quiet_libraries() -> None:
    """Silences the libraries; imported here so that `moored --help` answers at once."""
    from moored.huggingface.quiet import quiet_libraries as quiet

    quiet()
