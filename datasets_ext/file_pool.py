"""The same question to many files, several processes at a time."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from os import _exit
from typing import TypeVar

from roga_domainbed.errors import RogaError

T = TypeVar("T")

_FEWEST = 2000  # below this, starting processes takes longer than reading the files
_CHUNK = 64


def ask_files(question: Callable[[str], T], paths: Sequence[str], title: str, n_workers: int) -> Iterator[T]:
    """``question(path)`` for each path, in their order, with a progress bar on a terminal's stderr.

    Args:
        question: a function of a module, so that other processes can find it; it must not raise.
        paths: the files.
        title: what the progress bar says.
        n_workers: processes; few files are read in this one.

    Raises:
        RogaError: if a worker process dies.
    """
    from tqdm import tqdm

    def shown(results: Iterator[T]) -> Iterator[T]:
        return iter(tqdm(results, total=len(paths), desc=title, unit="file", disable=None, smoothing=0.05))

    if n_workers <= 1 or len(paths) < _FEWEST:
        yield from shown(map(question, paths))
        return
    # Spawned, which is safe whatever threads the caller has.
    pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _start_worker)
    try:
        yield from shown(pool.map(question, paths, chunksize=_CHUNK))
    except BrokenProcessPool:
        raise RogaError("a worker process died, most likely for want of memory") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once and without a traceback
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker that waits for work does not notice that its parent was killed: it holds both ends of the pipe.
    multiprocessing.parent_process().join()
    _exit(1)
