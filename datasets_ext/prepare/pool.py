"""Many clips, one process each at a time."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from datasets_ext.prepare.clips import Clip, Options, Outcome
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import MissingExtra, RogaError

_PACKAGES = {"av": "av", "cv2": "opencv-python-headless"}  # module → package that has it

_worker: dict[str, Any] = {}  # what a worker process keeps between clips


def require(options: Options) -> None:
    """Raise ``RogaError`` if what does the work cannot be made here: a package, a detector's model is missing."""
    for module in options.NEEDS:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(_PACKAGES[module], "prepare", "cutting faces out of videos")
    _maker(options)


def make_all(
    clips: Sequence[Clip], options: Options, root: Path, staging: Path, n_workers: int
) -> Iterator[Outcome]:
    """Prepare ``clips`` and yield their outcomes as they come.

    With one worker everything happens in this process. Otherwise the processes are spawned, which is safe
    whatever threads the caller has. They end with this generator, and also if this process is killed.

    Raises:
        RogaError: if a worker process dies.
        OSError: if a file cannot be written.
    """
    n_workers = min(n_workers, len(clips))
    if n_workers <= 1:
        maker = _maker(options)
        for clip in clips:
            yield maker(clip, root, staging)
        return
    pool = ProcessPoolExecutor(
        n_workers,
        multiprocessing.get_context("spawn"),
        _start_worker,
        (options.MAKER, options.arguments(), root, staging),
    )
    try:
        for future in as_completed([pool.submit(_make_in_worker, clip) for clip in clips]):
            yield future.result()
    except BrokenProcessPool:
        raise RogaError(
            "a worker process died, most likely for want of memory; what is finished is kept: run the same "
            "command again with a smaller --n_workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _maker(options: Options) -> Callable[[Clip, Path, Path], Outcome]:
    return load(options.MAKER)(*options.arguments())


def _start_worker(target: str, arguments: tuple, root: Path, staging: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once and without a traceback
    threading.Thread(target=_end_with_parent, daemon=True).start()
    make = load(target)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)  # the processes are the parallelism
    _worker.update(maker=make(*arguments), root=root, staging=staging)


def _make_in_worker(clip: Clip) -> Outcome:
    return _worker["maker"](clip, _worker["root"], _worker["staging"])


def _end_with_parent() -> None:
    # A worker that waits for work does not notice that its parent was killed: it holds both ends of the pipe.
    multiprocessing.parent_process().join()
    os._exit(1)
