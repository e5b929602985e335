"""The hyper-parameters of a run: defaults or draws of the registry, then ``--hparams`` over them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import chain
from typing import Any

from roga_domainbed.catalog import (
    ALGORITHMS,
    AVERAGING_HPARAMS,
    BACKBONE_HPARAMS,
    DATASETS,
    INPUT_HPARAMS,
    OPTIMIZER_HPARAMS,
    SCHEDULE_HPARAMS,
)
from roga_domainbed.catalog.hparams import HParam, constant, overridden, parse_overrides, plain
from roga_domainbed.engine.hparams_registry import specs
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import Host
from roga_domainbed.seeds import seed_hash
from roga_domainbed.trainer import averaging, learning_rate
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.upstream.own_optimizer import optimizer_refusal

_OF_TRAINING = (*OPTIMIZER_HPARAMS, *SCHEDULE_HPARAMS, *AVERAGING_HPARAMS)


def resolve_hparams(config: TrainConfig, host: Host, problems: Problems) -> dict[str, Any]:
    """The run's hyper-parameters, as plain Python values; faults of ``--hparams`` are added to ``problems``.

    ``hparams_seed`` 0 means the defaults; otherwise the draws of ``seed_hash(hparams_seed, trial_seed)``.
    An unknown algorithm or dataset has none: ``TrainConfig.check`` names it.
    """
    try:
        overrides = parse_overrides(config.hparams)
    except RogaError as error:
        problems.add(str(error))
        overrides = {}
    if config.algorithm not in ALGORITHMS or config.dataset not in DATASETS:
        return {}
    defaults, draws = _defaults_and_draws(config, host)
    known = _allowed(config, host, defaults, draws).values()
    hparams = overridden(draws if config.hparams_seed else defaults, overrides, known, problems)
    refusal = optimizer_refusal(config.algorithm, hparams, defaults, host)
    if refusal is not None:
        problems.add(refusal)
    if not config.hparams_seed:
        # The registry knows the dataset's network; --hparams may have given the run another one.
        given = {name: value for name, value in hparams.items() if name in overrides}
        fitted = {spec.name: spec for spec in specs(config.algorithm, config.dataset, given)}
        fitted = {name: spec for name, spec in fitted.items() if name not in overrides}
        hparams |= {name: spec.default for name, spec in fitted.items() if spec.scratch is not None}
    weights = hparams.get("weights")
    if weights and not os.path.isfile(weights):
        problems.add(f"hparams 'weights': no such file: {weights!r}")
    if not problems.messages:
        for message in learning_rate.problems(hparams, config.steps):
            problems.add(message)
        for message in averaging.problems(hparams, config.steps, config.eval_every or config.checkpoint_freq):
            problems.add(message)
    return hparams | _that_go_with(hparams)


def declared_hparams(config: TrainConfig, host: Host) -> dict[str, HParam]:
    """A declaration for every hyper-parameter that ``--hparams`` may give the run's algorithm on its dataset."""
    return _allowed(config, host, *_defaults_and_draws(config, host))


def _allowed(
    config: TrainConfig, host: Host, defaults: dict[str, Any], draws: dict[str, Any]
) -> dict[str, HParam]:
    specs = [*_of_any_run(config, host), *_declared(config, defaults, draws)]
    return {spec.name: spec for spec in specs}


#: A choice → the hyper-parameters that go with it and need not be given.
_GO_WITH = {
    ("optimizer", "sgd"): ("momentum",),
    ("lr_schedule", "step"): ("lr_decay",),
    **{("averaging", choice): names for choice, names in averaging.GO_WITH.items()},
}


def _that_go_with(hparams: dict[str, Any]) -> dict[str, Any]:
    """The defaults that the choices in ``hparams`` bring with them: a record has them, too."""
    defaults = {spec.name: spec.default for spec in _OF_TRAINING}
    names = [names for (choice, value), names in _GO_WITH.items() if hparams.get(choice) == value]
    return {name: defaults[name] for name in chain(*names) if name not in hparams}


def _defaults_and_draws(config: TrainConfig, host: Host) -> tuple[dict[str, Any], dict[str, Any]]:
    registry, pair = host.hparams_registry, (config.algorithm, config.dataset)
    draws = registry.random_hparams(*pair, seed_hash(config.hparams_seed, config.trial_seed))
    return _plain(registry.default_hparams(*pair)), _plain(draws)


def _plain(hparams: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in hparams.items()}


def _of_any_run(config: TrainConfig, host: Host) -> list[HParam]:
    """What may be given whatever the algorithm and dataset: backbone, augmentation, and ``_OF_TRAINING``."""
    # upstream's image folders are 224 pixels wide whatever one asks for
    sized = host.name != "upstream" or DATASETS.get(config.dataset).plugin
    specs = (*BACKBONE_HPARAMS, *INPUT_HPARAMS, *_OF_TRAINING)
    return [spec for spec in specs if sized or spec.name != "image_size"]


def _declared(config: TrainConfig, defaults: dict[str, Any], draws: dict[str, Any]) -> Iterable[HParam]:
    """A declaration for each of the host's hyper-parameters: ours, or one that goes by its default and a draw."""
    ours = {spec.name: spec for spec in specs(config.algorithm, config.dataset)}
    for name, default in defaults.items():
        # a whole default whose draws are not, such as upstream's IGA 'penalty' of 1000, is no integer
        like = draws[name] if isinstance(draws[name], float) else default
        yield ours.get(name) or HParam(name, like, constant(like))
