"""Whole commands in processes of their own, which can be stopped at any of their events in the file system.

An event is whatever changes a file or a folder: one opened for writing, renamed, made or removed. Python tells of each
before it happens, so that a run stops at the same place every time, however busy the machine is.
"""

import errno
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NEEDED = ["moored.cli", "moored.workflows.train.run", "moored.workflows.measure.run", "moored.workflows.select.run"]
_NEEDED += ["moored.workflows.recover.run", "moored.workflows.inspect.basin", "moored.workflows.inspect.spectrum"]
_NEEDED += ["moored.workflows.inspect.gradients", "moored.report", __name__]

processes = multiprocessing.get_context("forkserver")
"""A process that has imported everything once makes the others."""
processes.set_forkserver_preload(_NEEDED)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """The exit code; negative for the signal that ended it."""
    text: str
    """What it printed."""
    events: int
    """How many events there were; 0 where it was killed."""


class Command:
    """A command at work in a folder."""

    def __init__(self, words: Sequence[str], folder: Path, *, at: int = 0, act: str = "") -> None:
        """Starts it.

        Args:
            words: the command line after `moored`.
            folder: the working folder, in which events count.
            at: the number of the event at which something happens to it; 0 for nothing.
            act: the name of a signal, or ENOSPC for a disk that is full from then on.
        """
        self._log = folder.with_name(f"{folder.name}.log")
        self._count = processes.Value("i", 0)
        self._process = processes.Process(target=_run, args=(words, folder, self._log, self._count, at, act))
        self._process.start()

    def wait(self) -> Ended:
        """Returns how it ended, once it has."""
        self._process.join()
        text = self._log.read_text(encoding="utf-8", errors="replace")
        return Ended(self._process.exitcode or 0, text, self._count.value)


def moored(*words: str, folder: Path, at: int = 0, act: str = "") -> Ended:
    """Runs a command to its end, with the arguments of `Command`."""
    return Command(words, folder, at=at, act=act).wait()


def _run(words: Sequence[str], folder: Path, log: Path, count: Any, at: int, act: str) -> None:
    from moored.cli import main

    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Jobs in the background are deaf to it.
    sys.argv = ["moored", *words]
    happen = _ACTS[act] if act in _ACTS else lambda: os.kill(os.getpid(), getattr(signal, act))
    _watch(str(folder.resolve()), count, at, happen if at else lambda: None)
    main()


def _watch(folder: str, count: Any, at: int, happen: Callable[[], None]) -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if not _is_change(event, arguments) or not _path(arguments[0]).startswith(folder):
            return
        count.value += 1
        # A full disk stays full; a signal comes once.
        if count.value == at or (happen is _refuse and count.value > at):
            happen()

    sys.addaudithook(hook)


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    return event in _CHANGES or (event == "open" and bool(int(arguments[2] or 0) & _WRITING))


def _path(name: Any) -> str:
    return os.path.abspath(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else ""


def _refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_ACTS: dict[str, Callable[[], None]] = {"ENOSPC": _refuse, "": lambda: None}
