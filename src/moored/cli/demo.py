"""`moored demo`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from moored.cli._options import Console, quiet_libraries


def demo_command(
    out: Annotated[Path, Option(help="The folder of the demo; a second call goes on where the first stopped.")] = Path(
        "demo"
    ),
    quick: Annotated[bool, Option("--quick", help="Fewer rows and prompts: under 4 minutes on 2 cores.")] = False,
) -> None:
    """The whole story on the embedded model: drift after fine-tuning, one-shot repair, and a report."""
    quiet_libraries()
    from moored.report import summary_table
    from moored.workflows.demo import demo

    console = Console()
    page, measured = demo(out, quick=quick, console=Console(stderr=True))
    console.print(summary_table(measured))
    console.print(f"Report: {page}", highlight=False, soft_wrap=True)
