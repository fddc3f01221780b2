"""`moored safeguards`."""

from typing import Annotated

from rich import box
from rich.markup import escape
from rich.table import Table
from typer import Argument

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import Console

_EXAMPLE = """List any number of them in a training file:

safeguards:
  - {name: harmful_direction}
  - {name: safety_tokens, strength: 1}
"""


def safeguards_command(
    name: Annotated[str | None, Argument(help="Show only this safeguard (default: all).", show_default=False)] = None,
) -> None:
    """Lists the safeguards that a training file can name, with their keys and defaults."""
    stay_offline_unless_named()
    from moored.workflows.safeguards.catalogue import describe_safeguards

    console = Console(highlight=False)
    if name is None:
        console.print(f"{_EXAMPLE}\n")
    for each in describe_safeguards(name):
        console.print(f"[bold]{each.name}[/bold]\n{escape(each.about)}\n")
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for head in ("key", "takes", "default", "meaning"):
            table.add_column(head, no_wrap=head in ("key", "default"))
        for key in each.keys:
            default = "required" if key.default is None else key.default
            table.add_row(*map(escape, (key.name, key.values, default, key.meaning)))
        console.print(table, "")
