"""The only file that writes into the host's registries.

On the embedded engine there is nothing to write: it reads the catalog. On an upstream checkout our algorithms,
datasets, hyper-parameters and backbones are put where upstream's scripts look for them: module attributes, the
name lists, ``hparams_registry._hparams`` and ``networks.Featurizer``. Running it twice changes nothing.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from roga_domainbed.backend import Host, host
from roga_domainbed.catalog import ALGORITHMS, DATASETS, load_backbone
from roga_domainbed.featurizer_slot import any_featurizer
from roga_domainbed.hparams import HParam
from roga_domainbed.registry import Registry, load

_MARK = "_roga_domainbed_original"


def register() -> Host:
    """Make the plugin's names known to the host, and return the host."""
    current = host()
    if current.name == "upstream":
        _add_classes(current.algorithms, current.algorithms.ALGORITHMS, ALGORITHMS)
        _add_classes(current.datasets, current.datasets.DATASETS, DATASETS)
        _wrap(current.hparams_registry, "_hparams", _with_plugin_hparams)
        _wrap(current.networks, "Featurizer", _with_backbones)
        if hasattr(current.algorithms, "URM"):  # a fork may be older
            _wrap(current.algorithms.URM, "_modify_generator_output", any_featurizer(current.networks))
    return current


def _add_classes(module: ModuleType, names: list[str], catalog: Registry) -> None:
    for info in catalog:
        if info.plugin:
            setattr(module, info.name, load(info.target))
            if info.name not in names:
                names.append(info.name)


def _wrap(module: ModuleType | type, name: str, wrapper: Any) -> None:
    original = getattr(module, name)
    if not hasattr(original, _MARK):
        wrapped = functools.wraps(original)(wrapper(original))
        setattr(wrapped, _MARK, original)
        setattr(module, name, wrapped)


def plugin_hparams(algorithm: str, dataset: str) -> list[HParam]:
    """What the plugin declares for this pair, to be put after the host's own hyper-parameters."""
    specs: list[HParam] = []
    if algorithm in ALGORITHMS and ALGORITHMS.get(algorithm).plugin:
        specs += load(ALGORITHMS.get(algorithm).target).HPARAMS
    if dataset in DATASETS:
        specs += DATASETS.get(dataset).hparams
    return specs


def _with_plugin_hparams(original: Any) -> Any:
    def _hparams(algorithm: str, dataset: str, random_seed: int) -> dict[str, tuple[Any, Any]]:
        hparams = original(algorithm, dataset, random_seed)
        for spec in plugin_hparams(algorithm, dataset):
            hparams[spec.name] = (spec.default, spec.draw(random_seed))
        return hparams

    return _hparams


def _with_backbones(original: Any) -> Any:
    def Featurizer(input_shape: tuple, hparams: dict[str, Any]) -> Any:
        name = hparams.get("backbone")
        if name:
            return load_backbone(name)(input_shape, hparams)
        if tuple(input_shape[1:]) == (224, 224) and not hparams.get("vit") and _own_start(hparams):
            return load("roga_domainbed.engine.networks.resnet:ResNet")(input_shape, hparams)
        return original(input_shape, hparams)

    return Featurizer


def _own_start(hparams: dict[str, Any]) -> bool:
    """Whether the first weights are not the ones that upstream's ResNet always fetches; ours is the same network."""
    return bool(hparams.get("weights")) or not hparams.get("pretrained", True)
