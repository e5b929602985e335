"""The only file that writes into the host's registries.

The embedded engine reads the catalog, so there is nothing to write. In an upstream checkout our algorithms, datasets,
hyper-parameters, backbones, launchers and splits are put where upstream's scripts look for them: module attributes,
lists of names, ``hparams_registry._hparams``, ``networks.Featurizer``, ``command_launchers.REGISTRY`` and
``misc.split_dataset``. What a fork has of its own gets rows in the catalog. Running it twice changes nothing. It must
run before upstream's sweep script is imported, which copies the list of datasets.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from roga_domainbed.catalog import ALGORITHMS, DATASETS, AlgorithmInfo, DatasetInfo, fitted, load_backbone
from roga_domainbed.catalog.hparams import HParam
from roga_domainbed.catalog.registry import Registry, load
from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import Host, host
from roga_domainbed.upstream.launchers import upstream_launchers
from roga_domainbed.upstream.splits import StockSplits

_MARK = "_roga_domainbed_original"
_OURS = "_roga_domainbed_names"
_OWN = "of this checkout"

#: How upstream's own train splits our datasets in this process; None outside of ``roga-domainbed upstream``.
_stock_splits: StockSplits | None = None


def register() -> Host:
    """Make the plugin's names known to the host, and return the host."""
    current = host()
    if current.name == "upstream":
        _add_rows(current)
        _add_classes(current.algorithms, current.algorithms.ALGORITHMS, ALGORITHMS)
        _add_classes(current.datasets, current.datasets.DATASETS, DATASETS)
        _wrap(current.hparams_registry, "_hparams", _with_plugin_hparams)
        _wrap(current.networks, "Featurizer", _with_backbones)
        _wrap(current.misc, "split_dataset", _with_stock_splits)
        _wrap(current.fast_data_loader, "InfiniteDataLoader", _refusing_small_sets)
        _add_launchers(current.command_launchers)
        if hasattr(current.algorithms, "URM"):  # a fork may be older
            _wrap(current.algorithms.URM, "_modify_generator_output", _with_any_featurizer(current.networks))
    return current


def available(catalog: Registry) -> list[str]:
    """The names of ``catalog`` that the host has, in its order; the host is a checkout."""
    current = register()
    module = current.datasets if catalog is DATASETS else current.algorithms
    return [info.name for info in catalog if info.plugin or hasattr(module, info.name)]


def _add_rows(current: Host) -> None:
    """Give a row to each algorithm and dataset that a fork has of its own."""
    for name in current.algorithms.ALGORITHMS:
        if name not in ALGORITHMS and hasattr(current.algorithms, name):
            ALGORITHMS.add(AlgorithmInfo(name, summary=_OWN))
    for name in current.datasets.DATASETS:
        cls = getattr(current.datasets, name, None)
        if name not in DATASETS and getattr(cls, "ENVIRONMENTS", None):
            debug = getattr(current.datasets, "Debug", None)
            made = debug is not None and issubclass(cls, debug)
            DATASETS.add(
                DatasetInfo(name, tuple(map(str, cls.ENVIRONMENTS)), summary=_OWN, needs_data_dir=not made)
            )


def use_stock_splits(splits: StockSplits, trained: Collection[str] = ()) -> None:
    """Let upstream's own train, in this process, split our datasets as ``splits`` says.

    Args:
        splits: of the run.
        trained: names of the checkout's own datasets that it shall plan too. Their constructors are wrapped and not
            their classes replaced: they name themselves, as in ``super(PACS, self)``.
    """
    global _stock_splits
    _stock_splits = splits
    datasets = register().datasets
    for info in DATASETS:
        if info.plugin:
            setattr(datasets, info.name, splits.watch(load(info.target)))
        elif info.name in trained:
            _wrap(vars(datasets)[info.name], "__init__", _planning(vars(datasets)[info.name]))


def _planning(dataset_class: type) -> Callable[[Any], Any]:
    def wrapper(original: Any) -> Any:
        def __init__(dataset: Any, root: Any, test_envs: Collection[int], hparams: dict[str, Any]) -> None:
            original(dataset, root, test_envs, hparams)
            if _stock_splits is not None and type(dataset) is dataset_class:
                _stock_splits.plan(dataset, test_envs, hparams)

        return __init__

    return wrapper


def _add_classes(module: ModuleType, names: list[str], catalog: Registry) -> None:
    ours: set[str] = vars(module).setdefault(_OURS, set())
    for info in catalog:
        if info.plugin and info.name not in ours:
            if hasattr(module, info.name):
                print(
                    f"Notice: the checkout has {catalog.kind} {info.name!r} of its own; the plugin's takes its place.",
                    file=sys.stderr,
                )
            setattr(module, info.name, load(info.target))
            if info.name not in names:
                names.append(info.name)
            ours.add(info.name)


def _add_launchers(module: ModuleType) -> None:
    if not hasattr(module, _OURS):
        setattr(module, _OURS, True)
        module.REGISTRY.update(upstream_launchers(module.REGISTRY))


def _wrap(module: ModuleType | type, name: str, wrapper: Any) -> None:
    original = getattr(module, name)
    if not hasattr(original, _MARK):
        wrapped = functools.wraps(original, updated=())(wrapper(original))
        setattr(wrapped, _MARK, original)
        setattr(module, name, wrapped)


def plugin_hparams(algorithm: str, dataset: str) -> list[HParam]:
    """What the plugin declares for this pair, to be put after the host's own hyper-parameters."""
    specs: list[HParam] = []
    if algorithm in ALGORITHMS and ALGORITHMS.get(algorithm).plugin:
        specs += load(ALGORITHMS.get(algorithm).target).HPARAMS
    if dataset in DATASETS:
        specs += DATASETS.get(dataset).hparams
    return fitted(specs, dataset, {})


def _with_plugin_hparams(original: Any) -> Any:
    def _hparams(algorithm: str, dataset: str, random_seed: int) -> dict[str, tuple[Any, Any]]:
        hparams = original(algorithm, dataset, random_seed)
        for spec in plugin_hparams(algorithm, dataset):
            hparams[spec.name] = (spec.default, spec.draw(random_seed))
        if _stock_splits is not None and dataset in DATASETS:
            hparams.update(_stock_splits.hparams(DATASETS.get(dataset)))
        return hparams

    return _hparams


def _with_backbones(original: Any) -> Any:
    def plain(input_shape: tuple, hparams: dict[str, Any]) -> Any:
        name = hparams.get("backbone")
        if name:
            return load_backbone(name)(input_shape, hparams)
        if tuple(input_shape[1:]) == (224, 224) and not hparams.get("vit") and _own_start(hparams):
            return load("roga_domainbed.engine.networks.resnet:ResNet")(input_shape, hparams)
        return original(input_shape, hparams)

    def Featurizer(input_shape: tuple, hparams: dict[str, Any]) -> Any:
        build = functools.partial(load("roga_domainbed.networks.normalization:with_normalization"), plain)
        return load("roga_domainbed.networks.frequency:with_frequency")(build, input_shape, hparams)

    return Featurizer


def _own_start(hparams: dict[str, Any]) -> bool:
    """Whether to start from other weights than upstream's ResNet always fetches; ours is the same network."""
    return bool(hparams.get("weights")) or not hparams.get("pretrained", True)


def _with_stock_splits(original: Any) -> Any:
    def split_dataset(dataset: Any, n: int, seed: int = 0) -> tuple[Any, Any]:
        planned = None if _stock_splits is None else _stock_splits.of(dataset, n, seed)
        return planned or original(dataset, n, seed)

    return split_dataset


def _refusing_small_sets(original: Any) -> Any:
    def InfiniteDataLoader(dataset: Any, weights: Any, batch_size: int, num_workers: int) -> Any:
        if weights is None and len(dataset) < batch_size:
            raise RogaError(
                f"a split of {len(dataset)} samples cannot give minibatches of {batch_size}: DomainBed would wait "
                f"for ever. Lower the hparam batch_size to {len(dataset)} or less, or train with "
                "'roga-domainbed train', which repeats samples"
            )
        return original(dataset, weights, batch_size, num_workers)

    return InfiniteDataLoader


def _with_any_featurizer(networks: ModuleType) -> Callable[[Any], Any]:
    """The wrapper for ``URM._modify_generator_output``, which fails with featurizers that are not DomainBed's.

    The method sets ``featurizer.activation`` after asserting that the featurizer is one of four classes. Ours have
    the slot as well; for them the method works on an empty stand-in of such a class, whose slot is then taken over.
    """

    def wrapper(original: Any) -> Any:
        def _modify_generator_output(self: Any) -> None:
            featurizer = self.featurizer
            if not type(featurizer).__module__.startswith("roga_domainbed."):
                original(self)
                return
            from torch import nn

            stand_in = networks.ResNet.__new__(networks.ResNet)  # its constructor would fetch weights
            nn.Module.__init__(stand_in)
            self.featurizer = stand_in
            try:
                original(self)
            finally:
                self.featurizer = featurizer
            featurizer.activation = stand_in.activation

        return _modify_generator_output

    return wrapper
