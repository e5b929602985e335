"""Which samples of each environment train, select and test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasets_ext.splits import frame
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.seeds import seed_hash, shuffled


@dataclass
class EnvironmentSplit:
    """Indices into one environment's dataset.

    Attributes:
        in_split: what a training environment trains on; what a test environment is reported on.
        out_split: what selection looks at.
        uda_split: unlabelled samples of a test environment, for domain adaptation; usually empty.
    """

    in_split: list[int]
    out_split: list[int]
    uda_split: list[int]

    def named(self) -> list[tuple[str, list[int]]]:
        """(name, indices) of the parts that exist, as the record keys name them."""
        parts = [("in", self.in_split), ("out", self.out_split)]
        return parts + ([("uda", self.uda_split)] if self.uda_split else [])


def split_environments(
    dataset: Any,
    mode: str | None,
    test_envs: list[int],
    trial_seed: int,
    holdout_fraction: float,
    uda_holdout_fraction: float,
    options: TrainingOptions,
) -> tuple[str, list[EnvironmentSplit]]:
    """Split every environment of ``dataset``.

    Args:
        dataset: a DomainBed dataset. If it has ``split_indices`` (ours do) the mode is its to carry out;
            otherwise only DomainBed's own ``frame`` split exists.
        mode: ``official``, ``group``, ``frame``, or None for the dataset's first.
        test_envs: indices of the held-out environments.
        trial_seed: seeds the split, together with the environment's index.
        holdout_fraction: share of the out-split.
        uda_holdout_fraction: share of a test environment's in-split that becomes unlabelled data.
        options: what of the training part is trained on.

    Returns:
        The mode that was used, and one split an environment.
    """
    modes = getattr(dataset, "SPLIT_MODES", ("frame",))
    mode = mode or modes[0]
    if mode not in modes:
        raise RogaError(
            f"--split {mode} needs a manifest, which {type(dataset).__name__} does not have; "
            f"it knows {', '.join(modes)}"
        )
    given = options.given()
    if hasattr(dataset, "split_indices"):
        pairs = dataset.split_indices(mode, trial_seed, holdout_fraction, test_envs, **options.keyword())
    elif given:
        flags = ", ".join(f"--{name}" for name in given)
        raise RogaError(f"{flags}: these need a manifest, which {type(dataset).__name__} does not have")
    else:
        pairs = frame([len(environment) for environment in dataset], trial_seed, holdout_fraction)
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
        splits.append(EnvironmentSplit(list(in_split), list(out_split), uda))
    problems.check()
    return mode, splits
