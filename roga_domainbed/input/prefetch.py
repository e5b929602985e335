"""Tasks done ahead of time, in order, by threads or by processes."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from torch.utils.data._utils.pin_memory import pin_memory

from roga_domainbed.errors import RogaError
from roga_domainbed.processes import worker_pool

_DEPTH = 2  # results that wait, for each worker


class WorkerDied(RogaError):
    """A process that reads samples has died."""


class Prefetcher:
    """``do(task)`` for every task in order; iterating again does them again.

    Args:
        do: a function of the task alone, so that the worker and the moment change nothing.
        tasks: what it is called with.
        workers: how many do it ahead; 0 does each task when its turn comes.
        processes: whether the workers are processes, for work that holds the interpreter's lock; they stay for the
            next iteration. Otherwise they are threads, which share what ``do`` keeps.
        pin: whether tensors go to page-locked memory, from which a GPU copies while it computes.

    Raises:
        WorkerDied: in an iteration, if a worker process has died.
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
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._workers == 0:
            yield from map(self._do, self._tasks)
            return
        if not self._processes:
            with ThreadPoolExecutor(self._workers, thread_name_prefix="reader") as pool:
                do = self._do_and_pin if self._pin else self._do
                yield from self._ahead(lambda task: pool.submit(do, task))
            return
        if self._pool is None:
            self._pool = worker_pool(self._workers, _begin, self._do)
        try:
            with ThreadPoolExecutor(1) as pinning:
                yield from self._ahead(lambda task: self._submit(task, pinning))
        except BrokenProcessPool:
            self._pool = None
            raise WorkerDied(
                "a process that reads images has died, as when memory runs out: give fewer --n_workers"
            ) from None

    def _ahead(self, submit: Callable[[Any], Future]) -> Iterator[Any]:
        tasks, waiting = iter(self._tasks), deque()
        try:
            waiting.extend(map(submit, itertools.islice(tasks, _DEPTH * self._workers)))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(map(submit, itertools.islice(tasks, 1)))
                yield result
        finally:
            for future in waiting:
                future.cancel()

    def _do_and_pin(self, task: Any) -> Any:
        return pin_memory(self._do(task))

    def _submit(self, task: Any, pinning: ThreadPoolExecutor) -> Future:
        future = self._pool.submit(_work, task)
        return pinning.submit(lambda: pin_memory(future.result())) if self._pin else future


def _begin(do: Callable[[Any], Any]) -> None:
    """For the start of a worker process."""
    global _do
    _do = do
    torch.set_num_threads(1)  # the processes are the parallelism


def _work(task: Any) -> Any:
    return _do(task)
