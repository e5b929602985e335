"""Hyper-parameters: declared beside their method, each drawn from its own seed.

A random value depends only on (random_seed, name, distribution), as in DomainBed. Adding, removing or re-ordering
hyper-parameters changes no other, and the same name draws the same underlying uniform in every algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roga_domainbed.catalog.values import Allowed, shown
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.foreign import Malformed, parse_json
from roga_domainbed.seeds import seed_hash

if TYPE_CHECKING:
    import numpy as np

Sampler = Callable[["np.random.RandomState"], Any]


def constant(value: Any) -> Sampler:
    """Always ``value``."""
    return lambda rng: value


def uniform(low: float, high: float) -> Sampler:
    """Uniform on [low, high)."""
    return lambda rng: float(rng.uniform(low, high))


def uniform_int(low: float, high: float) -> Sampler:
    """``int(U(low, high))``."""
    return lambda rng: int(rng.uniform(low, high))


def log_uniform(base: float, low: float, high: float) -> Sampler:
    """``base ** U(low, high)``: DomainBed's way to search a scale."""
    return lambda rng: float(base ** rng.uniform(low, high))


def log_uniform_int(base: float, low: float, high: float) -> Sampler:
    """``int(base ** U(low, high))``."""
    return lambda rng: int(base ** rng.uniform(low, high))


def choice(values: list) -> Sampler:
    """One of ``values``, as the built-in type it was given in."""
    return lambda rng: plain(rng.choice(values))


def plain(value: Any) -> Any:
    """``value`` as a built-in type: json refuses the numpy scalars that ``RandomState.choice`` gives."""
    return value.item() if hasattr(value, "item") else value


@dataclass(frozen=True)
class HParam(Allowed):
    """One hyper-parameter: ``HParam("rho", 0.05, log_uniform(10, -2, -0.5), "radius", at_least=0)``.

    Attributes:
        name: its key in ``hparams``.
        default: the value with ``--hparams_seed 0``. Its type is the ``kind`` where none is given.
        sample: draws the value of a random search.
        meaning: one line for ``roga-domainbed list``.
        scratch: the default for a network that starts from random weights (``catalog.start``); None for the same.
    """

    name: str
    default: Any
    sample: Sampler
    meaning: str = ""
    scratch: Any = None

    def __post_init__(self):
        if self.kind is None and self.default is not None:
            object.__setattr__(self, "kind", type(self.default))

    def draw(self, random_seed: int) -> Any:
        """The random value for ``random_seed``: a function of that seed, the name and the distribution."""
        import numpy as np  # here, so that the command line helps without it

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
        return parse_json(text, dict)
    except Malformed as error:
        verb = "is" if str(error).startswith("not ") else "cannot be read:"
        raise RogaError(
            f"""--hparams {verb} {error}; expected an object such as '{{"lr": 0.001}}', got {shown(text)}"""
        ) from None


def overridden(
    hparams: Mapping[str, Any], overrides: Mapping[str, Any], known: Iterable[HParam], problems: Problems
) -> dict[str, Any]:
    """``hparams`` with ``overrides`` over them; misspelt names and values that are not allowed go to ``problems``.

    Args:
        hparams: the defaults or the draws.
        overrides: the parsed ``--hparams``.
        known: a declaration for every name that may be overridden; the last one of a name counts.
        problems: where faults are added.
    """
    declared = {spec.name: spec for spec in known}
    result = dict(hparams)
    for name, value in overrides.items():
        if name not in declared:
            problems.add(unknown_name("hparam", name, declared))
            continue
        try:
            result[name] = declared[name].checked(value)
        except ValueError as error:
            problems.add(f"hparam {name!r} {error}")
    return result
