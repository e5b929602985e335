"""Which samples of each environment train, select and test, with which labels, and which cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from datasets_ext.training_options import TrainingOptions
from datasets_ext.training_rows import training_data
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.input.environment import Environment, OpenDataset
from roga_domainbed.seeds import seed_hash, shuffled


@dataclass
class EnvironmentSplit:
    """Indices into one environment's dataset.

    Attributes:
        in_split: what a training environment trains on; what a test environment is reported on.
        out_split: what selection looks at.
        uda_split: unlabelled samples of a test environment, for domain adaptation; usually empty.
        labels: (N,) int64, the classes of all samples of the environment with label noise; None for the true ones.
    """

    in_split: list[int]
    out_split: list[int]
    uda_split: list[int]
    labels: np.ndarray | None = None

    def named(self) -> list[tuple[str, list[int]]]:
        """(name, indices) of the parts that exist, as the record keys name them."""
        parts = [("in", self.in_split), ("out", self.out_split)]
        return parts + ([("uda", self.uda_split)] if self.uda_split else [])


def split_environments(
    dataset: OpenDataset,
    mode: str | None,
    test_envs: list[int],
    trial_seed: int,
    holdout_fraction: float,
    uda_holdout_fraction: float,
    options: TrainingOptions,
) -> tuple[str, list[EnvironmentSplit]]:
    """Split every environment of ``dataset``.

    Args:
        dataset: a dataset with ``split_indices`` (ours) carries out the mode; for others only DomainBed's own ``frame``
            split exists.
        mode: ``official``, ``group``, ``frame``, or None for the dataset's first.
        test_envs: indices of the held-out environments.
        trial_seed: seeds the split, together with the environment's index.
        holdout_fraction: share of the out-split.
        uda_holdout_fraction: share of a test environment's in-split that becomes unlabelled data.
        options: what of the training part is trained on, and with which labels.

    Returns:
        The mode that was used, and one split an environment.
    """
    mode = mode or dataset.split_modes[0]
    if mode not in dataset.split_modes:
        raise RogaError(
            f"--split {mode} needs a manifest, which {dataset.name} does not have; "
            f"it knows {', '.join(dataset.split_modes)}"
        )
    pairs, labels = training_data(dataset, mode, trial_seed, holdout_fraction, test_envs, options)
    splits, problems = [], Problems()
    for i, (in_split, out_split) in enumerate(pairs):
        uda: list[int] = []
        if i in test_envs and uda_holdout_fraction > 0:
            order = [in_split[k] for k in shuffled(len(in_split), seed_hash(trial_seed, i))]
            n_uda = int(len(in_split) * uda_holdout_fraction)
            uda, in_split = order[:n_uda], order[n_uda:]
        for name, part in (("in", in_split), ("out", out_split)):
            if not part:
                problems.add(
                    f"the {name}-split of environment {i} is empty: it has {len(dataset[i])} samples and "
                    f"--holdout_fraction is {holdout_fraction}"
                )
        splits.append(EnvironmentSplit(list(in_split), list(out_split), uda, labels.get(i)))
    problems.check()
    return mode, splits


def unreadable(
    dataset: Sequence[Environment], splits: Sequence[EnvironmentSplit]
) -> Iterator[tuple[int, int, str]]:
    """(environment, index, what is wrong) of every sample of the splits that cannot be read.

    Each is read once, one after the other; where the dataset keeps decoded images, nothing is done twice.
    """
    for env, split in enumerate(splits):
        view = dataset[env].evaluation
        for index in sorted({index for _, part in split.named() for index in part}):
            try:
                view[index]
            except (RogaError, OSError, SyntaxError, ValueError) as error:  # the last three are Pillow's
                yield env, index, str(error).splitlines()[0]


def drop_unreadable(
    dataset: Sequence[Environment], splits: Sequence[EnvironmentSplit], names: Sequence[str]
) -> list[str]:
    """Take what cannot be read out of ``splits``, in place; a sentence for each sample.

    Raises:
        RogaError: a split has nothing left.
    """
    found = list(unreadable(dataset, splits))
    gone: dict[int, set[int]] = {}
    for env, index, _ in found:
        gone.setdefault(env, set()).add(index)
    problems = Problems()
    for env, indices in gone.items():
        for name, part in splits[env].named():
            part[:] = [index for index in part if index not in indices]
            if not part:
                problems.add(f"no image of the {name}-split of environment {names[env]} can be read")
    problems.check()
    return [message for _, _, message in found]


def unreadable_message(
    dataset: Sequence[Environment], splits: Sequence[EnvironmentSplit], first: RogaError
) -> str:
    """The message of a run that met ``first``: how many samples cannot be read, and which."""
    messages = [message for _, _, message in unreadable(dataset, splits)] or [str(first)]
    listed = "".join(f"\n  {message}" for message in messages)
    return f"{len(messages)} image{'s' * (len(messages) > 1)} cannot be read; --skip-unreadable trains without:{listed}"
