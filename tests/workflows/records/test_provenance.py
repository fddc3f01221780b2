"""What a report says of its origin."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from moored.workflows.records.provenance import command_line


@pytest.mark.parametrize(
    ("module", "command"),
    [
        (None, "moored measure 'my model'"),
        ("benchmarks.speed.measure", "python -m benchmarks.speed.measure measure 'my model'"),
        ("package.__main__", "python -m package measure 'my model'"),
    ],
)
def test_the_command_is_as_a_shell_takes_it(monkeypatch, module, command):
    main = ModuleType("__main__")
    main.__spec__ = module and SimpleNamespace(name=module)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", ["/somewhere/moored", "measure", "my model"])
    assert command_line() == command
