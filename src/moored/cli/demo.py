"""`moored demo`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from moored.cli._network import stay_offline_unless_named
from moored.cli._options import Console, quiet_libraries


def demo_command(
    out: Annotated[
        Path | None,
        Option(help="The folder; by default demo or demo-quick. A second call goes on where the first stopped."),
    ] = None,
    quick: Annotated[bool, Option("--quick", help="Fewer rows and prompts: a few minutes on 2 cores.")] = False,
) -> None:
    """The whole story on the embedded model: drift after fine-tuning, one-shot repair, and a report."""
    stay_offline_unless_named()
    quiet_libraries()
    from moored.report import summary_table
    from moored.workflows.demo import demo

    console = Console()
    out = out or Path("demo-quick" if quick else "demo")
    page, measured = demo(out, quick=quick, console=Console(stderr=True))
    console.print(summary_table(measured))
    console.print(f"Report: {page}", highlight=False, markup=False, soft_wrap=True)
