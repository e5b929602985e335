"""Randomness as a function of numbers, never as a state.

Two rules live here. ``seed_hash`` is DomainBed's, bit for bit: splits, hyper-parameters and job seeds
made with it are interchangeable with upstream's. ``generator`` is ours: whatever the trainer draws is a pure
function of (seed, purpose, step, environment, …), so a resumed run draws what the unbroken run would have
drawn and the number of loader workers changes nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def seed_hash(*args: Any) -> int:
    """DomainBed's hash of a tuple of built-in values to a seed in [0, 2**31).

    The tuple's ``repr`` is hashed, so pass built-in types only: ``numpy.int64(1)`` has another repr under
    numpy 2 and would give another seed. Such values are refused.
    """
    _require_builtin(args)
    return int(hashlib.md5(str(args).encode("utf-8")).hexdigest(), 16) % (2**31)


def shuffled(n: int, seed: int) -> list[int]:
    """``range(n)`` in the order DomainBed's splits shuffle it into; the first keys become the held-out part."""
    import numpy as np  # here, so that the command line helps without it

    keys = list(range(n))
    np.random.RandomState(seed).shuffle(keys)  # on a list, as upstream: an array would be shuffled otherwise
    return keys


def derive(seed: int, purpose: str, *counters: int | str) -> int:
    """A 63-bit seed for ``purpose`` at these counters, independent of every other (purpose, counters)."""
    _require_builtin((seed, purpose, counters))
    return _digest(seed, purpose, counters) % 2**63


def generator(seed: int, purpose: str, *counters: int | str) -> np.random.Generator:
    """A numpy generator that is a pure function of its arguments (Philox keyed by their hash).

    Args:
        seed: the run's ``--seed``.
        purpose: what is drawn, for example ``"minibatch"``.
        counters: where in the run, for example ``step, env``.
    """
    import numpy as np

    _require_builtin((seed, purpose, counters))
    return np.random.Generator(np.random.Philox(key=_digest(seed, purpose, counters)))


def _digest(*parts: Any) -> int:
    return int.from_bytes(hashlib.md5(repr(parts).encode("utf-8")).digest(), "little")


def _require_builtin(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for item in value:
            _require_builtin(item)
    elif type(value) not in (int, float, str, bool, type(None)):
        raise TypeError(
            f"seeds hash the repr of built-in values; got {value!r} of type {type(value).__name__}"
        )
