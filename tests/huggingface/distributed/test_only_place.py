"""No package but `moored.huggingface.distributed` asks about the processes of a run, or lets them exchange anything."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import moored

SOURCE = Path(moored.__file__).parent
PLACE = SOURCE / "huggingface" / "distributed"
PACKAGES = ("torch.distributed", "accelerate")
FACTS = {
    *("process_index", "local_process_index", "world_size", "num_processes", "local_rank"),
    *("is_main_process", "is_local_main_process", "is_world_process_zero", "is_local_process_zero"),
    *("is_fsdp_enabled", "is_deepspeed_enabled"),
}
EXCHANGES = {
    "gather",
    "gather_for_metrics",
    "reduce",
    "pad_across_processes",
    "wait_for_everyone",
    "main_process_first",
}
# `trainer.args.should_save` may stay: it is the Trainer's own setting, which knows of machines that share no disk.


def _offences(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            exchanges = node.attr in EXCHANGES and "accelerator" in dotted
            names = [dotted] if exchanges or "torch.distributed" in dotted else []
            if node.attr in FACTS:
                yield f"line {node.lineno}: {dotted}"
        else:
            continue
        yield from (f"line {node.lineno}: {name}" for name in names if _is_of(name) or "accelerator." in name)


def _is_of(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in PACKAGES)


def test_no_other_module_asks_for_ranks_or_exchanges_anything():
    files = [file for file in SOURCE.rglob("*.py") if PLACE not in file.parents]
    assert len(files) > 100
    offences = {
        str(file.relative_to(SOURCE)): found
        for file in files
        if (found := [*_offences(ast.parse(file.read_text(encoding="utf-8")))])
    }
    assert not offences


@pytest.mark.parametrize(
    "line",
    [
        "from accelerate.utils import gather_object",
        "import torch.distributed as dist",
        "from torch.distributed.tensor import DTensor",
        "torch.distributed.get_rank()",
        "self.accelerator.gather(items)",
        "trainer.accelerator.reduce(tensor, 'sum')",
        "self.args.world_size",
        "args.process_index",
    ],
)
def test_it_is_noticed(line):
    assert [*_offences(ast.parse(line))]


@pytest.mark.parametrize("line", ["self.accelerator.autocast()", "logits.gather(-1, ids)", "from torch import Tensor"])
def test_what_has_nothing_to_do_with_processes_is_not(line):
    assert not [*_offences(ast.parse(line))]
