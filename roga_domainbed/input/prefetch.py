"""Tasks done ahead of time, in order, by threads or by processes."""

from __future__ import annotations

import functools
import io
import itertools
import pickle
import queue
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch.utils.data._utils.pin_memory import pin_memory

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.processes import Worker, WorkerDied

_DEPTH = 2  # results that wait, for each worker


class ReaderDied(Failed):
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
        ReaderDied: in an iteration, if a worker process has died.
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
        self._readers: list[Worker] = []

    def __iter__(self) -> Iterator[Any]:
        if self._workers == 0:
            yield from map(self._do, self._tasks)
            return
        do = self._do
        if self._processes:
            free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
            for reader in self._started():
                free.put(reader)
            do = functools.partial(_asked, free)
        if self._pin:
            do = functools.partial(_pinned, do)
        try:
            with ThreadPoolExecutor(self._workers, thread_name_prefix="reader") as pool:
                yield from self._ahead(lambda task: pool.submit(do, task))
        except WorkerDied:
            self._end_readers()
            raise ReaderDied(
                "a process that reads images has died, as when memory runs out: give fewer --n_workers"
            ) from None

    def _started(self) -> list[Worker]:
        try:
            while len(self._readers) < self._workers:
                self._readers.append(Worker(_Reader(self._do)))
        except OSError as error:
            self._end_readers()
            raise ReaderDied(
                f"the {self._workers} processes that read images cannot be started: {error.strerror}; "
                "give fewer --n_workers"
            ) from None
        return self._readers

    def _end_readers(self) -> None:
        while self._readers:
            self._readers.pop().close()

    def _ahead(self, submit: Callable[[Any], Future]) -> Iterator[Any]:
        tasks, waiting = iter(self._tasks), deque()
        try:
            waiting.extend(map(submit, itertools.islice(tasks, _DEPTH * self._workers)))
            while waiting:
                for future in waiting:  # a death is said at once, not when the turn of its task comes
                    if future.done() and isinstance(future.exception(), WorkerDied):
                        raise future.exception()
                result = waiting.popleft().result()
                waiting.extend(map(submit, itertools.islice(tasks, 1)))
                yield result
        finally:
            for future in waiting:
                future.cancel()


def _pinned(do: Callable[[Any], Any], task: Any) -> Any:
    return pin_memory(do(task))


def _asked(free: queue.SimpleQueue[Worker], task: Any) -> Any:
    """The result of ``task``, from whichever reader is free; its error is raised here."""
    reader = free.get()
    try:
        answer = reader.ask(pickle.dumps(task))
    finally:
        free.put(reader)
    result, error, trace = pickle.loads(answer)
    if error is not None:
        raise error from (None if isinstance(error, RogaError) else _RemoteError(trace))
    return result


class _RemoteError(Exception):
    """Shows the traceback that an error had in the reader."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _Reader:
    """In the worker process: does tasks, as pickled bytes."""

    def __init__(self, do: Callable[[Any], Any]):
        self._do, self._begun = do, False

    def __call__(self, question: bytes) -> memoryview:
        if not self._begun:
            torch.set_num_threads(1)  # the processes are the parallelism
            self._begun = True
        try:
            return _pickled((self._do(pickle.loads(question)), None, ""))
        except Exception as error:
            trace = traceback.format_exc()
            try:
                return _pickled((None, error, trace))
            except Exception:  # an error that cannot be pickled
                return _pickled((None, RuntimeError(f"{type(error).__name__}: {error}"), trace))


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        # torch's own way is slow, and multiprocessing's goes through /dev/shm
        if isinstance(value, torch.Tensor) and value.dtype is not torch.bfloat16:
            return torch.from_numpy, (value.detach().numpy(),)
        return NotImplemented


def _pickled(value: Any) -> memoryview:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    return buffer.getbuffer()
