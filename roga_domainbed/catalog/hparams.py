"""Hyper-parameters: declared beside their method, each drawn from its own seed.

DomainBed's rule, kept: a random value depends only on (random_seed, name, distribution). Adding, removing or
re-ordering hyper-parameters changes no other, and the same name draws the same underlying uniform in every
algorithm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roga_domainbed.errors import RogaError, unknown_name
from roga_domainbed.seeds import seed_hash

#: Hyper-parameters that torch takes as integers alone.
WHOLE_NUMBERS = (
    "batch_size",
    "image_size",
    "mlp_width",
    "mlp_depth",
    "d_steps_per_g_step",
    "n_meta_test",
    "roga_every",
)
_POSITIVE = ("lr", "lr_g", "lr_d", *WHOLE_NUMBERS)

Sampler = Callable[[np.random.RandomState], Any]


def constant(value: Any) -> Sampler:
    """Always ``value``."""
    return lambda rng: value


def uniform(low: float, high: float) -> Sampler:
    """Uniform on [low, high)."""
    return lambda rng: float(rng.uniform(low, high))


def log_uniform(base: float, low: float, high: float) -> Sampler:
    """``base ** U(low, high)``: DomainBed's way to search a scale."""
    return lambda rng: float(base ** rng.uniform(low, high))


def log_uniform_int(base: float, low: float, high: float) -> Sampler:
    """``int(base ** U(low, high))``."""
    return lambda rng: int(base ** rng.uniform(low, high))


def choice(values: list) -> Sampler:
    """One of ``values``, as the built-in type it was given in."""
    # RandomState.choice gives numpy scalars, which json refuses (a defect of upstream): .item() mends it.
    return lambda rng: _builtin(rng.choice(values))


def _builtin(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class HParam:
    """One hyper-parameter.

    Attributes:
        name: its key in ``hparams``.
        default: the value with ``--hparams_seed 0``.
        sample: draws the value of a random search.
        meaning: one line for ``roga-domainbed list``.
        choices: the allowed values, where there are few.
    """

    name: str
    default: Any
    sample: Sampler
    meaning: str = ""
    choices: tuple = ()

    def draw(self, random_seed: int) -> Any:
        """The random value for ``random_seed``: a function of that seed, the name and the distribution."""
        return self.sample(np.random.RandomState(seed_hash(random_seed, self.name)))


def resolve(specs: Iterable[HParam], random_seed: int | None = None) -> dict[str, Any]:
    """Name → value in the order of ``specs``: defaults, or the draws of ``random_seed``.

    A later spec of the same name replaces an earlier one in its place, so a dataset can override a generic
    distribution without moving the key.
    """
    chosen: dict[str, HParam] = {}
    for spec in specs:
        chosen[spec.name] = spec
    return {
        name: spec.default if random_seed is None else spec.draw(random_seed) for name, spec in chosen.items()
    }


def parse_overrides(text: str | None) -> dict[str, Any]:
    """The JSON object of ``--hparams``, or ``RogaError`` that shows where it breaks."""
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise RogaError(
            f"--hparams is not valid JSON: {error.msg} at character {error.pos + 1} of {text!r}; "
            """expected an object such as '{"lr": 0.001}'"""
        ) from None
    if not isinstance(value, dict):
        raise RogaError(f"--hparams must be a JSON object such as '{{\"lr\": 0.001}}'; got {text!r}")
    return value


def override_problems(
    overrides: Mapping[str, Any], current: Mapping[str, Any], specs: Iterable[HParam]
) -> list[str]:
    """What is wrong with ``overrides``: misspelt names, values of another type, values not among the choices.

    Args:
        overrides: the parsed ``--hparams``.
        current: the hyper-parameters they would replace; its values give the types.
        specs: declarations, for those that have ``choices``.
    """
    problems = []
    choices = {spec.name: spec.choices for spec in specs if spec.choices}
    for name, value in overrides.items():
        if name not in current:
            problems.append(unknown_name("hparam", name, current))
        elif name in choices and value not in choices[name]:
            allowed = ", ".join(repr(item) for item in choices[name])
            problems.append(f"hparam {name!r} must be one of {allowed}; got {value!r}")
        elif not _same_kind(value, current[name]):
            problems.append(
                f"hparam {name!r} must be {_kind(current[name])}, like its present value {current[name]!r}; "
                f"got {value!r}"
            )
        elif _kind(value) == "a number":
            problems += _range_problems(name, value)
    return problems


def _range_problems(name: str, value: float) -> list[str]:
    """No hyper-parameter of DomainBed or ours is negative; some have to be more than that."""
    if name in WHOLE_NUMBERS and not (math.isfinite(value) and value == int(value)):
        return [f"hparam {name!r} must be a whole number; got {value!r}"]
    if name in _POSITIVE:
        allowed, ok = "above 0", 0 < value < math.inf
    elif name.endswith("dropout"):
        allowed, ok = "at least 0 and below 1", 0 <= value < 1
    elif name.endswith("_fraction"):
        allowed, ok = "above 0 and at most 1", 0 < value <= 1
    else:
        allowed, ok = "finite and at least 0", 0 <= value < math.inf
    return [] if ok else [f"hparam {name!r} must be {allowed}; got {value!r}"]


def _same_kind(value: Any, like: Any) -> bool:
    if like is None:
        return True
    return _kind(value) == _kind(like)


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true or false"
    if isinstance(value, (int, float, np.number)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return f"of type {type(value).__name__}"
