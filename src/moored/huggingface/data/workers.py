"""Work that several processes share, with its results in the order of what they were made of."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from moored.errors import InputError

S = TypeVar("S")
T = TypeVar("T")
_MOST = 16
"""More processes wait for the one that reads the rows and writes the tokens."""
_work: Callable[[Any], Any]
"""What a worker does."""


def worker_count() -> int:
    """The number of processes that are worth starting: one a core where they begin with a copy of this one's memory.

    Elsewhere each would import everything anew, and run an unguarded script of the user's a second time.
    """
    if sys.platform != "linux" or multiprocessing.current_process().daemon:
        return 1
    return min(len(os.sched_getaffinity(0)), _MOST)


def in_order(work: Callable[[S], T], items: Iterable[S], workers: int) -> Generator[T, None, None]:
    """Yields what `work` makes of each item; only a few items are in memory at any time.

    Args:
        work: a function whose errors can be pickled.
        items: whatever can be pickled.
        workers: processes to work in; 1 works in this one.

    Raises:
        InputError: the system ended a process.
    """
    if workers == 1:
        yield from map(work, items)
        return
    try:
        with _pool(work, workers) as pool:
            waiting: deque[Future[T]] = deque()
            for item in items:
                waiting.append(pool.submit(_worked, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "The system ended a process that tokenizes rows, for lack of memory, say; set dataset_num_proc: 1."
        ) from error


def _pool(work: Callable[[Any], Any], workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(work,))
    with warnings.catch_warnings():
        # Python 3.12 warns of threads, which PyTorch always has. Workers only render and tokenize.
        warnings.simplefilter("ignore", DeprecationWarning)
        pool.submit(os.getpid)
    return pool


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    # What was copied stays: searching it for garbage would take time, and memory of its own.
    gc.freeze()
    # The tokenizer's own threads do not survive a fork, and each worker has one core.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Ctrl-C reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent is killed would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _worked(item: Any) -> Any:
    return _work(item)
