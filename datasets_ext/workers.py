"""Worker processes, and one function applied to many files by them."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from roga_domainbed.errors import RogaError
from roga_domainbed.processes import end_with_parent

T = TypeVar("T")

_FEWEST = 2000  # below this, starting processes takes longer than reading the files
_CHUNK = 64


@contextmanager
def workers(
    n_workers: int, start: Callable[..., None] | None = None, arguments: tuple = (), advice: str = ""
) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that end with the block, or when this process is killed.

    They are spawned, which is safe whatever threads the caller has.

    Args:
        n_workers: processes.
        start: called in each at its start.
        arguments: what ``start`` is called with.
        advice: what the user can do if one dies; it ends the message.

    Raises:
        RogaError: a worker process died.
    """
    pool = ProcessPoolExecutor(
        n_workers, multiprocessing.get_context("spawn"), _start_worker, (start, arguments)
    )
    try:
        yield pool
    except BrokenProcessPool:
        raise RogaError(f"a worker process died, most likely for lack of memory{advice}") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def map_files(function: Callable[[str], T], paths: Sequence[str], title: str, n_workers: int) -> Iterator[T]:
    """``function(path)`` for each path, in order, with a progress bar on a terminal's stderr.

    Args:
        function: of a module, so that worker processes can import it; it must not raise.
        paths: the files.
        title: of the progress bar.
        n_workers: processes. Fewer than 2,000 files are read in this process.

    Raises:
        RogaError: a worker process died.
    """
    from tqdm import tqdm

    def shown(results: Iterator[T]) -> Iterator[T]:
        return iter(tqdm(results, total=len(paths), desc=title, unit="file", disable=None, smoothing=0.05))

    if n_workers <= 1 or len(paths) < _FEWEST:
        yield from shown(map(function, paths))
        return
    with workers(n_workers) as pool:
        yield from shown(pool.map(function, paths, chunksize=_CHUNK))


def _start_worker(start: Callable[..., None] | None, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once and without a traceback
    end_with_parent()
    if start is not None:
        start(*arguments)
