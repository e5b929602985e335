"""Many clips, one process each at a time."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from datasets_ext.prepare.clips import Clip, CropOptions, Outcome
from datasets_ext.prepare.detectors import DETECTORS
from roga_domainbed.errors import MissingExtra, RogaError
from roga_domainbed.registry import load

_PACKAGES = {"av": "av", "cv2": "opencv-python-headless"}  # module → package that has it

_worker: dict[str, Any] = {}  # what a worker process keeps between clips


def require_detector(name: str) -> None:
    """Raise ``RogaError`` if videos cannot be decoded here or the detector cannot be made."""
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "prepare", "cutting faces out of videos")
    load(DETECTORS.get(name).target)()


def crop_all(
    clips: Sequence[Clip], work: str, options: CropOptions, root: Path, staging: Path, n_workers: int
) -> Iterator[Outcome]:
    """Do ``work`` (``Layout.work``) on each of ``clips`` and yield their outcomes as they come.

    With one worker everything happens in this process. Otherwise the processes are spawned, which is safe
    whatever threads the caller has. They end with this generator, and also if this process is killed.

    Raises:
        RogaError: if a worker process dies.
        OSError: if a crop cannot be written.
    """
    target = DETECTORS.get(options.detector).target
    n_workers = min(n_workers, len(clips))
    if n_workers <= 1:
        crop, detector = load(work), load(target)()
        for clip in clips:
            yield crop(clip, options, detector, root, staging)
        return
    pool = ProcessPoolExecutor(
        n_workers, multiprocessing.get_context("spawn"), _start_worker, (work, target, options, root, staging)
    )
    try:
        for future in as_completed([pool.submit(_crop_in_worker, clip) for clip in clips]):
            yield future.result()
    except BrokenProcessPool:
        raise RogaError(
            "a worker process died, most likely for want of memory; what is finished is kept: run the same "
            "command again with a smaller --n_workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(work: str, target: str, options: CropOptions, root: Path, staging: Path) -> None:
    import cv2

    cv2.setNumThreads(1)  # the processes are the parallelism
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it at once and without a traceback
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.update(work=load(work), arguments=(options, load(target)(), root, staging))


def _crop_in_worker(clip: Clip) -> Outcome:
    return _worker["work"](clip, *_worker["arguments"])


def _end_with_parent() -> None:
    # A worker that waits for work does not notice that its parent was killed: it holds both ends of the pipe.
    multiprocessing.parent_process().join()
    os._exit(1)
