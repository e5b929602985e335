"""The whole state of an algorithm of any class: captured as plain values, restored in place.

``state_dict`` is not enough to resume from: it lacks the optimizers, moving averages in attributes, counters that are
plain numbers, gradients that a method leaves for its next step. So every attribute, container and tensor of the object
is visited, once each. The result holds only plain Python values and tensors, which ``torch.load(weights_only=True)``
reads; it cannot run code.

Restoring needs a newly built object of the same class. Tensors are written into those it has, so that an optimizer or
a flat buffer still shares them. Functions, hooks and the like are not state: the new object keeps its own. An object
that the constructor does not make cannot be restored; ``ObjectState.problems`` names it.

A captured value is a plain number or string as it is, or a tuple that starts with its kind:

    ("tensor", id, tensor, requires_grad, is_parameter, gradient)     ("again", id)          met before
    ("list" | "deque" | "set" | "frozenset", id, values)              ("tuple", values)
    ("dict" | "OrderedDict" | …, id, [(key, value), …])               ("object", id, class, {attribute: value})
    ("array" | "scalar", id, tensor)      numpy's                     ("kept",)               no state
    ("generator", id, state)              torch's or numpy's
"""

from __future__ import annotations

import enum
import functools
import itertools
import re
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from roga_domainbed.errors import is_out_of_memory

_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(torch.dtype, torch.device, torch.Size),
)
_NO_STATE = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.MethodWrapperType),
    *(types.ModuleType, type, functools.partial, enum.Enum, weakref.ref, re.Pattern, PurePath),
    *(torch.memory_format, torch.layout, np.dtype),
)
_DICTS = {cls.__name__: cls for cls in (dict, OrderedDict, defaultdict, Counter)}
_SEQUENCES = {cls.__name__: cls for cls in (list, deque, set, frozenset)}
_MISSING = object()
_MOST_VALUES = 5_000_000

Captured = Any


class CannotRestore(Exception):
    """The captured state does not fit the object; the message says where."""


class ObjectState:
    """Captures and restores the state of one object.

    Args:
        root: the object, newly built: ``restore`` can restore the parts that it has now.
        made_anew: paths of attributes that each update makes before it reads them, such as ``("dist.kde",)``; they
            are not state.

    Attributes:
        problems: after a ``capture``, a phrase for each part that could not be restored into a new object.
    """

    def __init__(self, root: Any, made_anew: Iterable[str] = ()):
        self._root = root
        self._made_anew = frozenset(made_anew)
        first = _Capture(self._made_anew)
        first.value(root, "")
        self._built = first.kinds
        self.problems: list[str] = first.strange

    def capture(self) -> Captured:
        """The state now. Its tensors are the object's own: write them before the next update, or copy them."""
        now = _Capture(self._made_anew)
        captured = now.value(self._root, "")
        self.problems = now.strange + [
            f"{path} is a {kind} that the constructor does not make"
            for path, kind in now.kinds.items()
            if self._built.get(path) != kind
        ]
        return captured

    def restore(self, captured: Captured) -> None:
        """Restore a captured state.

        Args:
            captured: from ``capture`` of an object of the same class, built with the same arguments.

        Raises:
            CannotRestore: it is another object's; part of it may have been restored by then.
        """
        try:
            _Restore().value(captured, self._root, "")
        except (IndexError, TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise CannotRestore(f"it is not in the form that this version writes ({error})") from None


class _Capture:
    """One visit of everything. ``kinds`` has the path and class of every object and function."""

    def __init__(self, made_anew: frozenset[str]):
        self.kinds: dict[str, str] = {}
        self.strange: list[str] = []
        self._made_anew = made_anew
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # an id is unique only among living objects

    def value(self, value: Any, path: str) -> Captured:
        if type(value) in _PLAIN:
            return value
        if id(value) in self._seen:
            return "again", self._seen[id(value)]
        if type(value) in (Tensor, nn.Parameter):
            return _captured_tensor(value, self._number(value))
        if isinstance(value, tuple):
            return "tuple", [self.value(item, f"{path}[{i}]") for i, item in enumerate(value)]
        kind = type(value).__name__
        if type(value) is _DICTS.get(kind):
            return self._dict(value, kind, path)
        if type(value) is _SEQUENCES.get(kind):
            number = self._number(value)
            return kind, number, [self.value(item, f"{path}[{i}]") for i, item in enumerate(value)]
        if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
            kind = "array" if isinstance(value, np.ndarray) else "scalar"
            return kind, self._number(value), torch.from_numpy(np.array(value))
        if isinstance(value, torch.Generator):
            return "generator", self._number(value), value.get_state()
        if isinstance(value, np.random.Generator):
            return "generator", self._number(value), self.value(value.bit_generator.state, path)
        return self._object(value, path)

    def _number(self, value: Any) -> int:
        number = self._seen[id(value)] = len(self._seen)
        self._alive.append(value)
        return number

    def _dict(self, value: dict, kind: str, path: str) -> Captured:
        number = self._number(value)
        items = []
        for key, item in value.items():
            where = _item_path(path, key)
            if where not in self._made_anew:
                items.append((self.value(key, path), self.value(item, where)))
        if items and all(item == ("kept",) for _, item in items):
            return ("kept",)  # hooks, under keys that count all hooks of the process
        return kind, number, items

    def _object(self, value: Any, path: str) -> Captured:
        cls = type(value)
        if isinstance(value, _NO_STATE) or (_is_torchs_inside(cls) and not hasattr(value, "load_state_dict")):
            self.kinds[path] = _name_without_state(value)
            return ("kept",)
        if isinstance(value, (dict, list, set, deque, Tensor)) or not hasattr(value, "__dict__"):
            self.strange.append(f"{path} is a {cls.__name__}, which cannot be looked into")
            return ("kept",)
        self.kinds[path] = _class_name(cls)
        number = self._number(value)
        attributes = {}
        for name, item in value.__dict__.items():
            where = f"{path}.{name}" if path else name
            if where not in self._made_anew:
                attributes[name] = self.value(item, where)
        if attributes and all(item == ("kept",) for item in attributes.values()):
            del self._seen[id(value)]
            return ("kept",)  # such as a wrapper of a process group
        return "object", number, _class_name(cls), attributes


def _item_path(path: str, key: Any) -> str:
    """The path of an item; parts of a module have the names by which they are used."""
    owner, _, last = path.rpartition(".")
    if last in ("_modules", "_parameters", "_buffers"):
        return f"{owner}.{key}" if owner else key
    return f"{path}[{_shown(key)}]"


def _captured_tensor(value: Tensor, number: int) -> Captured:
    gradient = value.grad if value.is_leaf and value.requires_grad else None
    is_parameter = isinstance(value, nn.Parameter)
    return (
        "tensor",
        number,
        _alone(value.detach()),
        value.is_leaf and value.requires_grad,
        is_parameter,
        None if gradient is None else _alone(gradient.detach()),
    )


def _alone(tensor: Tensor) -> Tensor:
    """The tensor, copied if it is part of a larger storage, which would be written whole."""
    if tensor.layout is torch.strided and tensor.untyped_storage().nbytes() > tensor.nbytes:
        return tensor.clone()
    return tensor


def _class_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _name_without_state(value: Any) -> str:
    """Distinguishes functions, so that a change is noticed."""
    name = getattr(value, "__qualname__", None) or (str(value) if not callable(value) else "")
    return f"{type(value).__name__} {name}".rstrip()


def _is_torchs_inside(cls: type) -> bool:
    """Compiled code, streams, process groups and the like: not state, and endless to visit."""
    return cls.__module__.startswith(("torch._", "torch.cuda", "torch.distributed", "torch.utils.hooks"))


def _shown(key: Any) -> str:
    return repr(key) if type(key) in _PLAIN else f"a {type(key).__name__}"


class _Restore:
    """Visits the captured state and the object side by side."""

    def __init__(self):
        self._n_visited = 0
        self._made: dict[int, Any] = {}
        self._taken: dict[int, Any] = {}  # parts of the object that are restored already

    def value(self, captured: Captured, current: Any, path: str) -> Any:
        """What takes the place of ``current``: ``current`` itself if it could be written to."""
        self._n_visited += 1
        if self._n_visited > _MOST_VALUES:  # lists in lists may be one list again and again
            raise CannotRestore(f"it has more than {_MOST_VALUES:,} values")
        if not isinstance(captured, tuple) or type(captured) is torch.Size:
            return captured
        kind = captured[0]
        if kind == "again":
            return self._made[captured[1]]
        if kind == "kept":
            if current is _MISSING:
                raise CannotRestore(f"{path} is missing")
            return current
        if kind == "tuple":
            old = current if isinstance(current, tuple) else ()
            items = [
                self.value(item, now, f"{path}[{i}]")
                for i, (item, now) in enumerate(_side_by_side(captured[1], old))
            ]
            return type(current)._make(items) if hasattr(current, "_make") else tuple(items)
        number = captured[1]
        if kind == "tensor":
            return self._keep(number, self._tensor(captured, current))
        if kind == "object":
            return self._object(captured, current, path)
        if kind == "array":
            return self._keep(number, captured[2].numpy().copy())
        if kind == "scalar":
            return self._keep(number, captured[2].numpy()[()])
        if kind == "generator":
            return self._keep(number, self._generator(captured[2], current, path))
        if kind in _DICTS:
            return self._dict(captured, current, path)
        return self._sequence(captured, current, path)

    def _keep(self, number: int, made: Any) -> Any:
        self._made[number] = made
        self._taken[id(made)] = made
        return made

    def _is_free(self, current: Any, cls: type) -> bool:
        return type(current) is cls and id(current) not in self._taken

    def _tensor(self, captured: Captured, current: Any) -> Tensor:
        _, _, saved, requires_grad, is_parameter, gradient = captured
        fits = (
            self._is_free(current, nn.Parameter if is_parameter else Tensor)
            and current.is_leaf
            and current.shape == saved.shape
            and current.dtype == saved.dtype
        )
        if isinstance(current, nn.Parameter) and current.shape != saved.shape:
            raise ValueError(f"a parameter of shape {tuple(current.shape)} was {tuple(saved.shape)}")
        with torch.no_grad():
            if not fits:
                tensor = nn.Parameter(saved, requires_grad) if is_parameter else saved
                tensor.requires_grad_(requires_grad)
            else:
                tensor = current
                if tensor.stride() == saved.stride() and not _is_broadcast(tensor):
                    tensor.copy_(saved)
                else:  # another memory format rounds differently
                    tensor.data = saved.to(tensor.device)
                tensor.requires_grad_(requires_grad)
        if requires_grad:
            tensor.grad = None if gradient is None else gradient.to(tensor.device)
        return tensor

    def _object(self, captured: Captured, current: Any, path: str) -> Any:
        _, number, name, attributes = captured
        here = "nothing" if current is _MISSING else _class_name(type(current))
        if here != name:
            raise CannotRestore(f"{path or 'the algorithm'} was a {name} and is {here} here")
        if id(current) in self._taken:
            raise CannotRestore(f"{path} was an object of its own and is shared here")
        self._keep(number, current)
        own = current.__dict__
        for attribute, item in attributes.items():
            where = f"{path}.{attribute}" if path else attribute
            own[attribute] = self.value(item, own.get(attribute, _MISSING), where)
        return current

    def _dict(self, captured: Captured, current: Any, path: str) -> dict:
        kind, number, items = captured
        cls = _DICTS[kind]
        if not self._is_free(current, cls):
            if cls is defaultdict:
                raise CannotRestore(f"{path} was a defaultdict, whose function no file can hold")
            current = cls()
        self._keep(number, current)
        old = dict(current)
        new = []
        for key, item in items:
            key = self.value(key, _MISSING, path)
            new.append((key, self.value(item, old.get(key, _MISSING), f"{path}[{_shown(key)}]")))
        current.clear()
        for key, item in new:
            current[key] = item
        return current

    def _sequence(self, captured: Captured, current: Any, path: str) -> Any:
        kind, number, items = captured
        cls = _SEQUENCES[kind]
        in_place = self._is_free(current, cls) and cls in (list, deque)
        if in_place:
            self._keep(number, current)
        old = tuple(current) if in_place else ()
        new = [
            self.value(item, now, f"{path}[{i}]") for i, (item, now) in enumerate(_side_by_side(items, old))
        ]
        if not in_place:
            return self._keep(number, cls(new))
        current.clear()
        current.extend(new)
        return current

    @staticmethod
    def _generator(state: Any, current: Any, path: str) -> Any:
        if isinstance(current, torch.Generator):
            current.set_state(state)
        elif isinstance(current, np.random.Generator):
            current.bit_generator.state = _Restore().value(state, _MISSING, path)
        else:
            raise CannotRestore(f"{path} was a random generator")
        return current


def _side_by_side(new: Sequence, old: Sequence) -> Iterable[tuple[Any, Any]]:
    return itertools.zip_longest(new, old[: len(new)], fillvalue=_MISSING)


def _is_broadcast(tensor: Tensor) -> bool:
    return any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True))
