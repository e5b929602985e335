"""DomainBed's ``lib.misc``: splits, balanced weights, accuracy, pairs of minibatches, printing."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import seed_hash, shuffled

__all__ = [
    "Tee",
    "accuracy",
    "balanced_weights",
    "evaluation_mode",
    "make_weights_for_balanced_classes",
    "print_row",
    "print_separator",
    "random_pairs_of_minibatches",
    "seed_hash",
    "split_dataset",
    "split_meta_train_test",
]

Minibatch = tuple[torch.Tensor, torch.Tensor]


class _SplitDataset(Dataset):
    """The samples of ``underlying_dataset`` at ``keys``, in that order."""

    def __init__(self, underlying_dataset: Any, keys: list[int]):
        self.underlying_dataset = underlying_dataset
        self.keys = keys

    @property
    def labels(self) -> np.ndarray:
        """(len,) int; ``AttributeError`` if the underlying dataset has no ``labels``."""
        return np.asarray(self.underlying_dataset.labels)[self.keys]

    @property
    def evaluation(self) -> _SplitDataset:
        """The same samples without augmentation; ``AttributeError`` if the dataset has no such view."""
        view = self.underlying_dataset.evaluation
        return self if view is self.underlying_dataset else _SplitDataset(view, self.keys)

    def __getitem__(self, index: int) -> Any:
        return self.underlying_dataset[self.keys[index]]

    def __len__(self) -> int:
        return len(self.keys)


def split_dataset(dataset: Any, n: int, seed: int = 0) -> tuple[_SplitDataset, _SplitDataset]:
    """Split at random into ``n`` samples and the rest, with the same indices as upstream for a ``seed``."""
    if not 0 <= n <= len(dataset):
        raise RogaError(f"cannot put {n} of {len(dataset)} samples aside: a fraction must be between 0 and 1")
    keys = shuffled(len(dataset), seed)
    return _SplitDataset(dataset, keys[:n]), _SplitDataset(dataset, keys[n:])


def make_weights_for_balanced_classes(dataset: Any) -> torch.Tensor:
    """Sampling weights that give all classes the same probability.

    Args:
        dataset: every sample is read if it has no ``labels``.

    Returns:
        (N,) float32 that sums to 1; empty for an empty dataset.
    """
    labels = getattr(dataset, "labels", None)
    if labels is None:
        labels = [int(y) for _, y in dataset]
    return torch.from_numpy(balanced_weights(np.asarray(labels, dtype=np.int64))).float()


def balanced_weights(labels: np.ndarray) -> np.ndarray:
    """(N,) float64 sampling weights that give all classes in ``labels`` the same probability; they sum to 1."""
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return 1 / (counts[which] * max(1, len(counts)))


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Inside the block, ``network`` is in evaluation mode; afterwards every module has its old mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        # Module by module: train() would also unfreeze the batch norms that a method keeps in evaluation mode.
        for module, training in modes:
            module.training = training


def accuracy(
    network: nn.Module,
    loader: Iterable[Minibatch],
    weights: torch.Tensor | None,
    device: torch.device | str,
) -> float:
    """Fraction of samples that ``network.predict`` classifies correctly; the modes of the modules do not change.

    Args:
        network: its ``predict(x)`` returns logits (B, C), or (B, 1) and (B,) where positive means class 1.
        loader: minibatches ``(x, y)``.
        weights: (N,) weight of each sample in the order of ``loader``; None for equal weights.
        device: where ``x`` and ``y`` are moved.

    Raises:
        RogaError: if the loader is empty or all weights are zero.
    """
    correct = total = 0.0
    offset = 0
    with evaluation_mode(network), torch.no_grad():
        for x, y in loader:
            y = y.to(device)
            logits = network.predict(x.to(device)).reshape(len(y), -1)
            predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
            right = predicted.eq(y).double()
            batch_weights = torch.ones(len(y)) if weights is None else weights[offset : offset + len(y)]
            batch_weights = batch_weights.to(right)
            offset += len(y)
            correct += (right * batch_weights).sum().item()
            total += batch_weights.sum().item()
    if total == 0:
        raise RogaError("accuracy of nothing: the split has no samples, or all their weights are zero")
    return correct / total


def print_row(row: Iterable[Any], colwidth: int = 10, latex: bool = False) -> None:
    """Print one line of a table: cells padded and cut to ``colwidth``, floats with ten decimals."""
    cells = (f"{x:.10f}" if isinstance(x, (float, np.floating)) else str(x) for x in row)
    line = (" & " if latex else "  ").join(cell.ljust(colwidth)[:colwidth] for cell in cells)
    print(line, "\\\\" if latex else "")


def print_separator() -> None:
    """Print a line of 80 equals signs."""
    print("=" * 80)


class Tee:
    """A text stream that writes to a standard stream and to a file.

    Assign it (``sys.stdout = Tee(path)``), or use it as a context manager: it replaces the standard stream inside the
    block; afterwards the stream is restored and the file closed.

    Args:
        fname: the file.
        mode: ``"a"`` appends, ``"w"`` overwrites.
        channel: the standard stream.
    """

    def __init__(
        self,
        fname: str | os.PathLike,
        mode: str = "a",
        channel: Literal["stdout", "stderr"] = "stdout",
    ):
        self._channel = channel
        self.stream = getattr(sys, channel)
        # A name that is no Unicode must not end a run.
        self.file = open(fname, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - see close()

    @property
    def encoding(self) -> str:
        """The standard stream's encoding."""
        return self.stream.encoding

    def write(self, message: str) -> int:
        """Write to both without buffering, so that a killed run keeps its last line."""
        self.stream.write(message)
        self.file.write(message)
        self.flush()
        return len(message)

    def flush(self) -> None:
        """Flush both."""
        self.stream.flush()
        self.file.flush()

    def isatty(self) -> bool:
        """Whether the standard stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """The standard stream's file descriptor."""
        return self.stream.fileno()

    def close(self) -> None:
        """Close the file; the standard stream stays open."""
        self.file.close()

    def __enter__(self) -> Tee:
        setattr(sys, self._channel, self)
        return self

    def __exit__(self, *exception: object) -> None:
        setattr(sys, self._channel, self.stream)
        self.close()


def random_pairs_of_minibatches(minibatches: Sequence[Minibatch]) -> list[tuple[Minibatch, Minibatch]]:
    """Pair each minibatch with the next one of a random cycle; both are cut to the shorter one."""
    order = torch.randperm(len(minibatches)).tolist()
    following = order[1:] + order[:1]
    return [_cut(minibatches[i], minibatches[j]) for i, j in zip(order, following, strict=True)]


def split_meta_train_test(
    minibatches: Sequence[Minibatch], num_meta_test: int = 1
) -> list[tuple[Minibatch, Minibatch]]:
    """Pair each meta-train domain with a meta-test domain, in turn; both are cut to the shorter one.

    Raises:
        RogaError: if no domain is left for meta-training; upstream would return no pairs and learn nothing.
    """
    if not 0 < num_meta_test < len(minibatches):
        raise RogaError(
            f"{num_meta_test} of {len(minibatches)} training domains for meta-test: both sides need at least one"
        )
    order = torch.randperm(len(minibatches)).tolist()
    train, test = order[:-num_meta_test], order[-num_meta_test:]
    pairs = zip(train, itertools.cycle(test), strict=False)
    return [_cut(minibatches[i], minibatches[j]) for i, j in pairs]


def _cut(first: Minibatch, second: Minibatch) -> tuple[Minibatch, Minibatch]:
    n = min(len(first[0]), len(second[0]))
    return (first[0][:n], first[1][:n]), (second[0][:n], second[1][:n])
