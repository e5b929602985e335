"""Many videos, each prepared by one process."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import Options
from datasets_ext.prepare.outcome import Outcome
from datasets_ext.workers import workers
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import MissingExtra

_PACKAGES = {"av": "av", "cv2": "opencv-python-headless"}  # module → package that has it

Maker = Callable[[Video, Path], Outcome]
Task = tuple[
    Video, str
]  # a video, and the folder of its crops, relative to the dataset's, with forward slashes

_worker: dict[str, Any] = {}  # what a worker process keeps between videos


def require(options: Options) -> None:
    """Raise ``RogaError`` if the maker of ``options`` cannot be made: a package or a detector's model is missing."""
    for module in options.NEEDS:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(_PACKAGES[module], "prepare", "cutting faces out of videos")
    _maker(options)


def make_all(
    tasks: Sequence[Task], options: Options, root: Path, staging: Path, n_workers: int
) -> Iterator[Outcome]:
    """Prepare the videos of ``tasks`` and yield their outcomes as they come.

    Each video's frames are written below ``staging``, on the same file system; its folder below ``root`` appears when
    all of them are there. With one worker everything happens in this process.

    Raises:
        RogaError: a worker process died.
        OSError: a file cannot be written.
    """
    n_workers = min(n_workers, len(tasks))
    if n_workers <= 1:
        maker = _maker(options)
        for task in tasks:
            yield _make(maker, task, root, staging)
        return
    advice = "; finished videos are kept: run the same command again with a smaller --n_workers"
    with workers(
        n_workers, _start_worker, (options.MAKER, options.arguments(), root, staging), advice
    ) as pool:
        for future in as_completed([pool.submit(_make_in_worker, task) for task in tasks]):
            yield future.result()


def _make(maker: Maker, task: Task, root: Path, staging: Path) -> Outcome:
    """Make the folder of one video, whole or not at all."""
    video, folder = task
    part, target = staging / video.key, root / folder
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    outcome = replace(maker(video, part), folder=folder)
    if outcome.reason:
        shutil.rmtree(part)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(part, target)
    return outcome


def _maker(options: Options) -> Maker:
    return load(options.MAKER)(*options.arguments())


def _start_worker(target: str, arguments: tuple, root: Path, staging: Path) -> None:
    make = load(target)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)  # the processes are the parallelism
    _worker.update(maker=make(*arguments), root=root, staging=staging)


def _make_in_worker(task: Task) -> Outcome:
    return _make(_worker["maker"], task, _worker["root"], _worker["staging"])
