"""The hyper-parameters of a run: defaults or draws of the registry, then ``--hparams`` over them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from roga_domainbed.catalog import (
    ALGORITHMS,
    BACKBONE_HPARAMS,
    DATASETS,
    INPUT_HPARAMS,
    SCHEDULE_HPARAMS,
)
from roga_domainbed.catalog.hparams import HParam, constant, overridden, parse_overrides, plain
from roga_domainbed.engine.hparams_registry import specs
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.host.backend import Host
from roga_domainbed.seeds import seed_hash
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.learning_rate import warmup_problem


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
    registry, pair = host.hparams_registry, (config.algorithm, config.dataset)
    defaults = _plain(registry.default_hparams(*pair))
    draws = _plain(registry.random_hparams(*pair, seed_hash(config.hparams_seed, config.trial_seed)))
    known = [*_of_any_dataset(config, host), *_declared(config, defaults, draws)]
    hparams = overridden(draws if config.hparams_seed else defaults, overrides, known, problems)
    if not config.hparams_seed:
        # The registry knows the dataset's network; --hparams may have given the run another one.
        given = {name: value for name, value in hparams.items() if name in overrides}
        fitted = {spec.name: spec for spec in specs(*pair, given) if spec.name not in overrides}
        hparams |= {name: spec.default for name, spec in fitted.items() if spec.scratch is not None}
    weights = hparams.get("weights")
    if weights and not os.path.isfile(weights):
        problems.add(f"hparams 'weights': no such file: {weights!r}")
    problem = None if problems.messages or config.steps is None else warmup_problem(hparams, config.steps)
    if problem is not None:
        problems.add(problem)
    return hparams


def _plain(hparams: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in hparams.items()}


def _of_any_dataset(config: TrainConfig, host: Host) -> list[HParam]:
    """What may be given for any dataset: another backbone, another augmentation, a schedule of the learning rate."""
    # upstream's image folders are 224 pixels wide whatever one asks for
    sized = host.name != "upstream" or DATASETS.get(config.dataset).plugin
    specs = (*BACKBONE_HPARAMS, *INPUT_HPARAMS, *SCHEDULE_HPARAMS)
    return [spec for spec in specs if sized or spec.name != "image_size"]


def _declared(config: TrainConfig, defaults: dict[str, Any], draws: dict[str, Any]) -> Iterable[HParam]:
    """A declaration for each of the host's hyper-parameters: ours, or one that goes by its default and a draw."""
    ours = {spec.name: spec for spec in specs(config.algorithm, config.dataset)}
    for name, default in defaults.items():
        # a whole default whose draws are not, such as upstream's IGA 'penalty' of 1000, is no integer
        like = draws[name] if isinstance(draws[name], float) else default
        yield ours.get(name) or HParam(name, like, constant(like))
