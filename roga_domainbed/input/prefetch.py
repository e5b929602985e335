"""Tasks done ahead of time, in order, by threads or by processes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from roga_domainbed.errors import RogaError
from roga_domainbed.processes import ignore_in_worker

_DEPTH = 2  # results that wait, for each thread


class Ahead:
    """``do(task)`` for every task in order; iterating again does them again.

    Args:
        do: a function of the task alone, so that who calls it, and when, changes nothing.
        tasks: what it is called with.
        workers: how many do it ahead; 0 does each task when its turn comes.
        processes: whether the workers are processes, for work that holds the interpreter's lock; they stay for the
            next iteration. Otherwise they are threads, which share what ``do`` keeps.
        pin: whether tensors go to page-locked memory, from which a GPU copies while it computes.
    """

    def __init__(
        self,
        do: Callable[[Any], Any],
        tasks: Sequence[Any],
        *,
        workers: int,
        processes: bool,
        pin: bool = False,
    ):
        self._do, self._tasks, self._workers, self._pin = do, tasks, workers, pin
        self._loader = None
        if processes and workers > 0:
            self._loader = DataLoader(
                _Work(do),
                sampler=tasks,
                batch_size=None,
                num_workers=workers,
                persistent_workers=True,
                worker_init_fn=ignore_in_worker,
                pin_memory=pin,
                collate_fn=_unchanged,
            )

    def __iter__(self) -> Iterator[Any]:
        if self._loader is not None:
            results: Iterable[Any] = self._loader
        elif self._workers == 0:
            results = map(_caught(self._do), self._tasks)
        else:
            results = self._by_threads()
        for result in results:
            if isinstance(result, RogaError):
                raise result
            yield result

    def _by_threads(self) -> Iterator[Any]:
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="reader")
        waiting: deque = deque()
        tasks = iter(self._tasks)
        try:
            for task in itertools.islice(tasks, _DEPTH * self._workers):
                waiting.append(pool.submit(_caught(self._do), task))
            while waiting:
                result = waiting.popleft().result()
                result = pin_memory(result) if self._pin else result
                for task in itertools.islice(tasks, 1):
                    waiting.append(pool.submit(_caught(self._do), task))
                yield result
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class _Work(Dataset):
    def __init__(self, do: Callable[[Any], Any]):
        self._do = _caught(do)

    def __getitem__(self, task: Any) -> Any:
        return self._do(task)


class _caught:
    """``do`` that returns a ``RogaError``: raised in a worker it would come with the worker's traceback."""

    def __init__(self, do: Callable[[Any], Any]):
        self._do = do

    def __call__(self, task: Any) -> Any:
        try:
            return self._do(task)
        except RogaError as error:
            return error


def _unchanged(result: Any) -> Any:
    return result
