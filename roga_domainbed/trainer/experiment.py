"""The parts of a run: dataset, splits and algorithm, built in the order in which they can fail."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy
import PIL
import torch
import torchvision

from datasets_ext.leakage import audit_record, audited, leakage_notices
from roga_domainbed import __version__
from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.datasets import test_env_problems
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host import checkout
from roga_domainbed.host.backend import Host
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.input.path import InputOptions, InputPath
from roga_domainbed.input.relabelled import Relabelled
from roga_domainbed.networks import normalization
from roga_domainbed.optim.base import other_optimizers
from roga_domainbed.processes import keep_freed_memory
from roga_domainbed.seeds import derive
from roga_domainbed.trainer import averaging, distributed
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.counts import split_counts
from roga_domainbed.trainer.image_kind import image_kind
from roga_domainbed.trainer.learning_rate import LearningRate
from roga_domainbed.trainer.precision import autocast, prepare, resolve_precision
from roga_domainbed.trainer.splits import EnvironmentSplit, drop_unreadable, split_environments
from roga_domainbed.upstream import bridge, defects


class Experiment:
    """What a run trains, on what.

    Args:
        config: the arguments, checked.
        hparams: every hyper-parameter of the run.
        host: the DomainBed in use.

    Attributes:
        dataset: the environments; under ``--label_noise``, those that are trained on have the noisy labels.
        names: their names, in index order.
        train_envs: indices of those that are trained on.
        split_mode: ``official``, ``group`` or ``frame``.
        splits: one ``EnvironmentSplit`` an environment.
        leakage: what training, selection and test have in common; None where there is no manifest to tell.
        algorithm: the network and its update, on ``device``.
        n_workers: how many read images ahead.
        input: makes minibatches of the environments' samples.
        precision: ``fp32`` or ``bf16``.
        n_steps: steps of the run.
        checkpoint_freq: steps between records.
        learning_rate: its schedule.

    Raises:
        RogaError: data that is missing or does not fit the arguments; an algorithm that cannot train here.
    """

    def __init__(self, config: TrainConfig, hparams: dict[str, Any], host: Host):
        self.config, self.hparams, self.host = config, hparams, host
        keep_freed_memory()
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

        self.dataset, self.split_mode, self.splits = open_splits(config, hparams, host)
        self.names = self.dataset.names
        self.image_kind = image_kind(host.datasets.get_dataset_class(config.dataset))
        self.leakage = audited(
            self.dataset,
            [(split.in_split, split.out_split) for split in self.splits],
            self.split_mode,
            config.test_envs,
            config.allow_leakage,
        )
        self.n_workers = config.n_workers
        if self.n_workers is None:
            # A sweep gives each job its share of the cores as threads: as many readers, not more.
            self.n_workers = min(self.dataset.n_workers, torch.get_num_threads())
            in_memory = all(environment.in_memory for environment in self.dataset.environments)
            if self.n_workers == 1 and in_memory and self.device.type == "cpu":
                self.n_workers = 0  # nothing to decode, and the reader would share the network's core
        self.input = InputPath(
            self.dataset.environments,
            InputOptions(config.input, config.cache, hparams.get("augmentation") or None),
            name=config.dataset,
            seed=config.seed,
            n_workers=self.n_workers,
            device=self.device,
        )
        self.n_steps = config.steps or self.dataset.n_steps
        self.learning_rate = LearningRate(hparams, self.n_steps)
        self.checkpoint_freq = config.eval_every or config.checkpoint_freq or self.dataset.checkpoint_freq
        _check_averaging(hparams, self.n_steps, self.checkpoint_freq)
        self.train_envs = [i for i in range(len(self.dataset)) if i not in config.test_envs]

        #: a sentence for each image that is left out because it cannot be read
        self.dropped: list[str] = []
        if config.skip_unreadable:
            self.dropped = drop_unreadable(self.dataset, self.splits, self.names)
        _check_weights(hparams, self.dataset.input_shape)
        self.defects = defects.Job(config.algorithm, hparams, len(self.train_envs))
        if self.is_upstreams:
            problems = Problems()
            for message in defects.refusals(self.defects):
                problems.add(message)
            problems.check()
        seed_everything(derive(config.seed, "weights"))
        algorithm_class = host.algorithms.get_algorithm_class(config.algorithm)
        with self.explained():
            self.algorithm = algorithm_class(
                self.dataset.input_shape, self.dataset.num_classes, len(self.train_envs), hparams
            )
        if hparams.get("normalize") == "backbone":
            self.dataset.notes.append(_fit_normalization(self.algorithm, self.dataset))
        _check_optimizer(config.algorithm, self.algorithm, hparams)
        self.algorithm.to(self.device)
        self.precision = resolve_precision(config.precision, self.device)
        prepare(self.algorithm, self.precision, self.device, config.compile)

    @property
    def is_upstreams(self) -> bool:
        """Whether the algorithm is a checkout's own class."""
        return self.host.name == "upstream" and not ALGORITHMS.get(self.config.algorithm).plugin

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Inside, an error that is a known defect of upstream's algorithm is explained in a sentence."""
        try:
            yield
        except Exception as error:
            sentence = defects.explain(self.defects, error) if self.is_upstreams else None
            if sentence is None:
                raise
            raise RogaError(sentence) from error

    def autocast(self) -> AbstractContextManager:
        """Inside, the network computes in the run's precision."""
        return autocast(self.precision, self.device)

    def provenance(self) -> dict[str, Any]:
        """What the first record says about where the run's numbers come from."""
        on_gpu = self.device.type == "cuda"
        found = {
            "roga_domainbed": __version__,
            "backend": self.host.name,
            "backend_commit": None if self.host.home is None else checkout.commit(self.host.home),
            "split": self.split_mode,
            "audit": audit_record(self.leakage),
            "input": self.input.describe(),
            "precision": self.precision,
            "compiled": self.config.compile,
            "device": torch.cuda.get_device_name(self.device) if on_gpu else "cpu",
            "torch_threads": torch.get_num_threads(),
            "environments": self.names,
            "counts": split_counts(self.dataset, self.splits),
            "versions": library_versions(),
        }
        if distributed.n_processes() > 1:
            found["processes"] = distributed.n_processes()
        if DATASETS.get(self.config.dataset).is_tree:
            found["prepared_tree"] = True  # whose environments no catalog knows
        if self.dropped:
            found["unreadable"] = {"count": len(self.dropped), "first": self.dropped[:20]}
        return found

    def notices(self) -> list[str]:
        """What a person should know before it trains: of the data, and of upstream's algorithm; a sentence each."""
        found = self.dataset.notes + leakage_notices(self.leakage) + self._noise_notices()
        return found + (defects.notices(self.defects) if self.is_upstreams else [])

    def _noise_notices(self) -> list[str]:
        found = []
        for name, environment, split in zip(self.names, self.dataset.environments, self.splits, strict=True):
            if isinstance(environment, Relabelled):
                labelled = sorted({*split.in_split, *split.out_split})
                n_wrong = environment.n_wrong(labelled)
                found.append(
                    f"label noise: {n_wrong} of {len(labelled)} labels of environment {name} are wrong"
                )
        return found


def library_versions() -> dict[str, str]:
    """The seven versions that upstream prints, by the names it prints them under."""
    return {
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "Torchvision": torchvision.__version__,
        "CUDA": str(torch.version.cuda),
        "CUDNN": str(torch.backends.cudnn.version()),
        "NumPy": numpy.__version__,
        "PIL": PIL.__version__,
    }


def open_splits(
    config: TrainConfig, hparams: dict[str, Any], host: Host
) -> tuple[OpenDataset, str, list[EnvironmentSplit]]:
    """A run's dataset, its split mode and its splits.

    Under ``--label_noise`` the dataset's training environments have the noisy labels, in both parts: whoever trains
    on such labels selects by them too. Test environments have the true ones.

    Raises:
        RogaError: data that is missing or does not fit the arguments.
    """
    dataset = open_dataset(host, config.dataset, config.data_dir, config.test_envs, hparams, config.seed)
    problems = Problems()
    for message in test_env_problems(config.test_envs, tuple(dataset.names)):
        problems.add(message)
    problems.check()
    mode, splits = split_environments(
        dataset,
        config.split,
        config.test_envs,
        config.trial_seed,
        config.holdout_fraction,
        config.uda_holdout_fraction,
        config.training_options,
    )
    for env, split in enumerate(splits):
        if split.labels is not None:
            dataset.environments[env] = Relabelled(dataset[env], split.labels)
    return dataset, mode, splits


def open_dataset(
    host: Host, name: str, data_dir: str | None, test_envs: list[int], hparams: dict[str, Any], seed: int
) -> OpenDataset:
    """The dataset of that name.

    Raises:
        RogaError: data that is missing, or has other environments than the class says.
    """
    # Some datasets of upstream draw their content from the global generators.
    seed_everything(derive(seed, "dataset"))
    bridge.register()  # a prepared tree may have got its row since the last time
    dataset_class = host.datasets.get_dataset_class(name)
    opened = OpenDataset(dataset_class(data_dir, test_envs, hparams))
    names = opened.names
    if len(names) != len(opened):
        raise RogaError(
            f"{name} has {len(opened)} environments on disk and {len(names)} names: {', '.join(names)}"
        )
    return opened


def _fit_normalization(algorithm: torch.nn.Module, dataset: OpenDataset) -> str:
    recipes = [environment.recipe for environment in dataset.environments]
    found = {(recipe.mean, recipe.std) for recipe in recipes if recipe is not None}
    is_known = len(found) == 1 and None not in recipes
    return normalization.fit(algorithm, dataset.name, dataset.input_shape, found.pop() if is_known else None)


def _check_optimizer(name: str, algorithm: torch.nn.Module, hparams: dict[str, Any]) -> None:
    """Refuse an optimizer that is named and not used: a class of another package may make its own."""
    others = other_optimizers(algorithm, hparams)
    if others:
        raise RogaError(
            f"hparam 'optimizer' {hparams['optimizer']!r}: {name} makes {' and '.join(others)} itself, and this would "
            "change nothing; leave it out"
        )


def _check_averaging(hparams: dict[str, Any], n_steps: int, every: int) -> None:
    """Refuse an average that cannot begin: only now are the steps known, if they are the dataset's."""
    problems = Problems()
    for message in averaging.problems(hparams, n_steps, every):
        problems.add(message)
    problems.check()


def _check_weights(hparams: dict[str, Any], input_shape: tuple[int, ...]) -> None:
    """Refuse a file of weights that the network would not read."""
    if hparams.get("weights") and not hparams.get("backbone") and tuple(input_shape[1:]) != (224, 224):
        raise RogaError(
            f"hparam 'weights' is for a backbone or for images of 224x224; the network for inputs of shape "
            f"{tuple(input_shape)} starts from random weights: leave it out, or name a backbone"
        )
