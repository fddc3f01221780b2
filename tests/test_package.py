"""The package as a whole: what importing it costs, what it exports, and that no method is forgotten."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import moored
from moored import errors

SOURCE = Path(moored.__file__).parent
TESTS = Path(__file__).parent
REGISTRIES = {"selection": "RULES", "regularizers": "REGULARIZERS", "recovery": "REPAIRS", "measurement": "JUDGES"}
METHODS = [
    (room, file.stem)
    for room in REGISTRIES
    for file in sorted((SOURCE / room).glob("*.py"))
    if not file.stem.startswith("_")
]


def test_importing_the_package_is_cheap():
    code = "import sys, moored; print({'torch', 'transformers', 'peft', 'trl', 'datasets', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_every_exported_name_is_there():
    assert dir(moored) == moored.__all__
    for name in moored.__all__:
        assert getattr(moored, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = moored.nothing


@pytest.mark.parametrize("room", [*REGISTRIES, "huggingface", "huggingface.models", "huggingface.inference", "report"])
def test_every_name_that_a_room_exports_is_there(room):
    package = importlib.import_module(f"moored.{room}")
    assert package.__all__ and all(hasattr(package, name) for name in package.__all__)


def test_the_version_is_the_package_s():
    assert moored.__version__ == version("moored")


def test_every_error_says_how_the_command_line_ends():
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    codes = {each.__name__: each.exit_code for each in classes}
    users = {"UserError", "InputError", "ModelError", "InactiveError", "DivergedError"}
    assert codes == {**dict.fromkeys(users, 2), "GateError": 3, "MooredError": 1}
    assert all(issubclass(getattr(errors, name), errors.UserError) for name in users)


@pytest.mark.parametrize(("room", "stem"), METHODS)
def test_no_method_is_forgotten(room, stem):
    """A file of a method room is exported by it or is a part of one that is, and has a test file."""
    assert (TESTS / room / f"test_{stem}.py").is_file()
    package = importlib.import_module(f"moored.{room}")
    exported = {getattr(getattr(package, name), "__module__", "") for name in package.__all__}
    used = {name for other, name in _imports(SOURCE / room) if other != stem}
    assert f"moored.{room}.{stem}" in exported | used


@pytest.mark.parametrize(("room", "registry"), REGISTRIES.items())
def test_what_is_registered_is_exported_and_in_a_file_of_its_name_or_among_the_controls(room, registry):
    package = importlib.import_module(f"moored.{room}")
    for name, method in getattr(package, registry).items():
        assert method.__name__ in package.__all__
        assert method.__module__ in (f"moored.{room}.{name}", f"moored.{room}.controls")


def _imports(folder):
    """(file, module that it imports) for every file of a folder but its `__init__`."""
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and file.stem != "__init__":
                yield file.stem, node.module
