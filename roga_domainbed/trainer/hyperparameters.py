"""The hyper-parameters of a run: defaults or draws of the registry, then ``--hparams`` over them."""

from __future__ import annotations

from typing import Any

from roga_domainbed.catalog import ALGORITHMS, BACKBONE_HPARAMS, DATASETS, INPUT_HPARAMS
from roga_domainbed.catalog.hparams import WHOLE_NUMBERS, override_problems, parse_overrides
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import Host
from roga_domainbed.seeds import seed_hash
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.upstream.bridge import plugin_hparams


def resolve_hparams(config: TrainConfig, host: Host, problems: Problems) -> dict[str, Any]:
    """The run's hyper-parameters, as plain Python values; faults of ``--hparams`` are added to ``problems``.

    ``hparams_seed`` 0 means the defaults; otherwise the draws of ``seed_hash(hparams_seed, trial_seed)``.
    """
    if config.algorithm not in ALGORITHMS or config.dataset not in DATASETS:
        return {}  # already among the problems
    registry = host.hparams_registry
    if config.hparams_seed == 0:
        hparams = registry.default_hparams(config.algorithm, config.dataset)
    else:
        random_seed = seed_hash(config.hparams_seed, config.trial_seed)
        hparams = registry.random_hparams(config.algorithm, config.dataset, random_seed)
    # upstream leaves numpy scalars among its draws, which json refuses
    hparams = {name: value.item() if hasattr(value, "item") else value for name, value in hparams.items()}
    try:
        overrides = parse_overrides(config.hparams)
    except RogaError:
        return hparams  # already among the problems
    known = _known(hparams, config, host)
    specs = [*plugin_hparams(config.algorithm, config.dataset), *INPUT_HPARAMS]
    for message in override_problems(overrides, known, specs):
        problems.add(message)
    hparams.update(overrides)
    for name in WHOLE_NUMBERS:  # JSON knows one kind of number, torch insists on two
        if isinstance(hparams.get(name), float) and hparams[name].is_integer():
            hparams[name] = int(hparams[name])
    return hparams


def _known(hparams: dict[str, Any], config: TrainConfig, host: Host) -> dict[str, Any]:
    """What may be overridden: the run's own, the choice of a backbone and of an augmentation for any dataset."""
    anywhere = {spec.name: spec.default for spec in (*BACKBONE_HPARAMS, *INPUT_HPARAMS)}
    if host.name == "upstream" and not DATASETS.get(config.dataset).plugin:
        del anywhere["image_size"]  # upstream's image folders are 224 pixels wide whatever one asks for
    return {**anywhere, **hparams}
