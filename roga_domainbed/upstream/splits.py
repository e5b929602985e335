"""Our splits and options of the training data for upstream's own train script, which does not know them.

That script splits every environment with ``misc.split_dataset`` as soon as the dataset is built. Here the dataset's
own split is computed and audited when it is built, and returned when an environment is to be split. The mode is the
hyper-parameter ``split``, and the other options are hyper-parameters too: they are all that upstream's records, job
folders and sweeps carry along. A dataset without a manifest is left to upstream unless ``label_noise`` or
``train_fraction`` is given.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset, Subset

from datasets_ext.leakage import audited, leakage_notices
from datasets_ext.training_options import TrainingOptions
from datasets_ext.training_rows import training_data
from roga_domainbed.catalog import DatasetInfo
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import OpenDataset, split_modes, splits_itself
from roga_domainbed.input.relabelled import Relabelled
from roga_domainbed.seeds import seed_hash

#: DomainBed's own split, which is left to DomainBed.
FRAME = "frame"


class StockSplits:
    """The splits of one run of upstream's train.

    Args:
        trial_seed: of the run.
        holdout_fraction: of the run.
    """

    def __init__(self, trial_seed: int, holdout_fraction: float):
        self.trial_seed, self.holdout_fraction = trial_seed, holdout_fraction
        # By identity; the environment is kept beside its parts so that no other object can get its id.
        self._planned: dict[int, _Planned] = {}

    def hparams(self, info: DatasetInfo) -> dict[str, tuple[str, str]]:
        """``split`` as upstream's registry declares things, (default, random); nothing without a manifest."""
        mode = default_mode(info)
        return {} if mode is None else {"split": (mode, mode)}

    def watch(self, dataset_class: type) -> type:
        """``dataset_class``, with instances whose environments ``of`` can split."""

        def __init__(
            dataset: Any, root: str | None, test_envs: Collection[int], hparams: dict[str, Any]
        ) -> None:
            super(watched, dataset).__init__(root, test_envs, hparams)
            self.plan(dataset, test_envs, hparams)

        watched = type(dataset_class.__name__, (dataset_class,), {"__init__": __init__})
        return watched

    def of(self, environment: Dataset, n: int, seed: int) -> tuple[Subset, Subset] | None:
        """The parts of ``environment``, or None if upstream shall split it.

        Args:
            environment: what upstream is about to split.
            n: how many samples it would hold out.
            seed: with which it would shuffle.

        Returns:
            (out, in), in the order of upstream's ``split_dataset``.

        Raises:
            RogaError: upstream's numbers are not those of this run's arguments, as when a flag was abbreviated.
        """
        found = self._planned.get(id(environment))
        if found is None:
            return None
        expected = (
            int(len(environment) * self.holdout_fraction),
            seed_hash(self.trial_seed, found.index),
        )
        if (n, seed) != expected:
            raise RogaError("write --trial_seed and --holdout_fraction in full: the splits depend on them")
        return found.out_split, found.in_split

    def plan(self, stock: Any, test_envs: Collection[int], hparams: dict[str, Any]) -> None:
        """Compute and audit the parts of every environment of ``stock``, which upstream is about to split.

        Raises:
            RogaError: options that the data cannot have, or a leak.
        """
        options = TrainingOptions.of(hparams)
        if not (splits_itself(type(stock)) or options.given()):
            return
        dataset = OpenDataset(stock)
        mode = hparams.get("split", dataset.split_modes[0])
        cut = mode, self.trial_seed, self.holdout_fraction, test_envs
        pairs, labels = training_data(dataset, *cut, options)
        found = audited(dataset, pairs, mode, test_envs, bool(hparams.get("allow_leakage")))
        for message in leakage_notices(found):
            print(f"Notice: {message}.")
        if mode == FRAME and not options.given():
            return
        for index, (in_split, out_split) in enumerate(pairs):
            environment = stock[index]
            trained, selecting = environment, dataset[index].evaluation
            if index in labels:
                trained = Relabelled(dataset[index], labels[index])
                selecting = trained.evaluation
            # Without augmentation, as our own trainer reads what selects a model.
            parts = Subset(trained, in_split), Subset(selecting, out_split)
            self._planned[id(environment)] = _Planned(index, environment, *parts)


@dataclass(frozen=True)
class _Planned:
    index: int
    environment: Dataset
    in_split: Subset
    out_split: Subset


def default_mode(info: DatasetInfo) -> str | None:
    """How a dataset is split by default; None if it does not split itself."""
    if not info.plugin:
        return None
    dataset_class = load(info.target)
    return split_modes(dataset_class)[0] if splits_itself(dataset_class) else None
