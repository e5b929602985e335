"""The hyper-parameters of an (algorithm, dataset) pair, in DomainBed's order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roga_domainbed import catalog
from roga_domainbed.catalog.hparams import HParam, resolve
from roga_domainbed.catalog.registry import load


def specs(algorithm: str, dataset: str, overrides: Mapping[str, Any] | None = None) -> list[HParam]:
    """All declarations for the pair. A later one replaces an earlier one of the same name, in its place.

    Args:
        algorithm: its name. Unknown ones, and those that only a DomainBed checkout has, get the generic declarations.
        dataset: its name, likewise.
        overrides: hyper-parameters that are given. They decide on the network, and some defaults go by its start.
    """
    own: tuple[HParam, ...] = ()
    scale = catalog.scale_hparams(dataset)
    plugin = False
    if algorithm in catalog.ALGORITHMS:
        info = catalog.ALGORITHMS.get(algorithm)
        plugin = info.plugin
        if info.target is not None:
            cls = load(info.target)
            own = cls.HPARAMS
            # On a checkout, the plugin's classes inherit from upstream's, which declare nothing.
            if not plugin:
                scale += cls.dataset_hparams(dataset)
    # Upstream puts the hparams of an algorithm before lr, weight decay and batch size. The plugin's come after them:
    # on a checkout they can only be appended, and both backends must give the same order.
    middle = (*scale, *own) if plugin else (*own, *scale)
    extra = catalog.DATASETS.get(dataset).hparams if dataset in catalog.DATASETS else ()
    return catalog.fitted([*catalog.GENERIC_HPARAMS, *middle, *extra], dataset, overrides or {})


def default_hparams(algorithm: str, dataset: str) -> dict[str, Any]:
    """The default values, which ``--hparams_seed 0`` selects."""
    return resolve(specs(algorithm, dataset))


def random_hparams(algorithm: str, dataset: str, seed: int) -> dict[str, Any]:
    """The values drawn with ``seed``; training passes ``seed_hash(hparams_seed, trial_seed)``."""
    return resolve(specs(algorithm, dataset), seed)
