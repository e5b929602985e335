"""``Q``: upstream's list of records with group, filter, map and the rest."""

from __future__ import annotations

import inspect
import json
import math
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def make_selector_fn(selector: str | Callable) -> Callable[[Any], Any]:
    """A function that reads ``selector`` from an element.

    Args:
        selector: ``"key"``, ``"outer.inner"`` for nested keys, ``"a,b"`` for a tuple of both, or a function,
            which is returned as it is.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(selector, types.FunctionType):
        return selector
    if not isinstance(selector, str):
        raise TypeError(f"a selector is a string or a function; got {selector!r}")
    if "," in selector:
        parts = [make_selector_fn(part) for part in selector.split(",")]
        return lambda element: tuple(part(element) for part in parts)
    keys = [key.strip() for key in selector.split(".")]

    def select(element: Any) -> Any:
        for key in keys:
            element = element[key]
        return element

    return select


def hashable(value: Any) -> Any:
    """``value`` if it can be hashed, else a string that is equal for equal values."""
    try:
        hash(value)
    except TypeError:
        return json.dumps({"_": value}, sort_keys=True)
    return value


class Q:
    """A list that answers queries. It wraps the list it is given; it does not copy it."""

    __hash__ = None

    def __init__(self, list_: list):
        self._list = list_

    def __len__(self) -> int:
        return len(self._list)

    def __getitem__(self, key: int | slice) -> Any:
        return self._list[key]

    def __iter__(self) -> Iterator:
        return iter(self._list)

    def __eq__(self, other: object) -> bool:
        return self._list == (other._list if isinstance(other, Q) else other)

    def __str__(self) -> str:
        return str(self._list)

    def __repr__(self) -> str:
        return repr(self._list)

    def group(self, selector: str | Callable) -> Q:
        """(value, Q of the elements that have it), in ascending order of the value."""
        select = make_selector_fn(selector)
        groups: dict[Any, tuple[Any, list]] = {}
        for element in self._list:
            value = select(element)
            groups.setdefault(hashable(value), (value, []))[1].append(element)
        return Q([(groups[key][0], Q(groups[key][1])) for key in sorted(groups)])

    def group_map(self, selector: str | Callable, fn: Callable) -> Q:
        """``fn(value, members)`` of every group."""
        return self.group(selector).map(fn)

    def map(self, fn: Callable) -> Q:
        """``fn`` of every element; an element is unpacked if ``fn`` takes more than one argument."""
        if len(inspect.signature(fn).parameters) > 1:
            return Q([fn(*element) for element in self._list])
        return Q([fn(element) for element in self._list])

    def select(self, selector: str | Callable) -> Q:
        """The selected value of every element."""
        select = make_selector_fn(selector)
        return Q([select(element) for element in self._list])

    def min(self) -> Any:
        """The smallest element."""
        return min(self._list)

    def max(self) -> Any:
        """The largest element."""
        return max(self._list)

    def sum(self) -> Any:
        """The sum of the elements."""
        return sum(self._list)

    def len(self) -> int:
        """The number of elements."""
        return len(self._list)

    def mean(self) -> float:
        """The mean; NaN if there are no elements."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(np.mean(self._list))

    def std(self) -> float:
        """The population standard deviation; NaN if there are no elements."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(np.std(self._list))

    def mean_std(self) -> tuple[float, float]:
        """``(mean, std)``."""
        return self.mean(), self.std()

    def argmax(self, selector: str | Callable) -> Any:
        """The element with the largest selected value; the first of equals."""
        return max(self._list, key=make_selector_fn(selector))

    def filter(self, fn: Callable) -> Q:
        """The elements for which ``fn`` is true."""
        return Q([element for element in self._list if fn(element)])

    def filter_equals(self, selector: str | Callable, value: Any) -> Q:
        """The elements whose selected value equals ``value``."""
        select = make_selector_fn(selector)
        return self.filter(lambda element: select(element) == value)

    def filter_not_none(self) -> Q:
        """The elements that are not None."""
        return self.filter(lambda element: element is not None)

    def filter_not_nan(self) -> Q:
        """The elements that are not NaN."""
        return self.filter(lambda element: not np.isnan(element))

    def flatten(self) -> Q:
        """The elements of the elements: one level."""
        return Q([inner for element in self._list for inner in element])

    def unique(self) -> Q:
        """The first of every set of equal elements, in order."""
        seen = set()
        found = []
        for element in self._list:
            key = hashable(element)
            if key not in seen:
                seen.add(key)
                found.append(element)
        return Q(found)

    def sorted(self, key: str | Callable | None = None) -> Q:
        """Stable ascending sort; a NaN sorts before everything."""
        select = (lambda element: element) if key is None else make_selector_fn(key)

        def nan_first(element: Any) -> Any:
            value = select(element)
            return -math.inf if isinstance(value, float) and math.isnan(value) else value

        return Q(sorted(self._list, key=nan_first))
