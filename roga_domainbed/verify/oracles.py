"""Numbers recorded from an unmodified DomainBed (commit b93c22a): seeds, splits, draws of hyper-parameters."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from roga_domainbed.upstream import bridge
from roga_domainbed.verify.checks import Options, expect


def seeds(options: Options) -> str:
    """``seed_hash`` of the backend."""
    cases = _oracle("seed_hash")
    misc = bridge.register().misc
    for arguments, expected in cases:
        # JSON has no tuples; DomainBed hashes what a list prints as
        got = misc.seed_hash(*arguments)
        expect(got == expected, f"seed_hash{tuple(arguments)} is {got}, DomainBed's is {expected}")
    return f"{len(cases)} seeds equal DomainBed's"


def splits(options: Options) -> str:
    """``split_dataset`` of the backend, index by index."""
    cases = _oracle("split_dataset")
    misc = bridge.register().misc
    for case in cases:
        parts = misc.split_dataset(list(range(case["n_total"])), case["n_first"], case["seed"])
        for part, name in zip(parts, ("first_keys", "second_keys"), strict=True):
            expect(list(part.keys) == case[name], f"the split with seed {case['seed']} is another one")
    return f"{len(cases)} splits equal DomainBed's, to the index"


def hparams(options: Options) -> str:
    """Random hyper-parameters of the backend."""
    cases = _oracle("hparams")
    registry = bridge.register().hparams_registry
    for algorithm, dataset, seed, expected in cases:
        drawn = registry.random_hparams(algorithm, dataset, seed)
        odd = [name for name, value in expected.items() if drawn.get(name) != value]
        expect(
            not odd,
            f"{algorithm} on {dataset}, seed {seed}: {', '.join(f'{name} is {drawn.get(name)}' for name in odd)}",
        )
    return f"{len(cases)} draws of a search equal DomainBed's"


def _oracle(name: str) -> Any:
    text = resources.files("roga_domainbed.verify").joinpath("oracles.json").read_text(encoding="utf-8")
    return json.loads(text)[name]
