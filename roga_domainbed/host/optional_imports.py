"""Import DomainBed's datasets without ``wilds``, which only the WILDS datasets need.

If the package is missing, stand-in modules take its place while the ``datasets`` module of a checkout is imported.
Their attributes are classes that raise an error when they are used: it names the package to install. The stand-ins are
removed afterwards, so that no other ``import wilds`` finds them, and the checkout is not changed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from roga_domainbed.errors import RogaError

#: Package → its name for pip, and the part of DomainBed that needs it.
OPTIONAL = {
    "wilds": ("wilds", "the WILDS datasets (WILDSCamelyon, WILDSFMoW)"),
    "backpack": ("backpack-for-pytorch", "the algorithm Fishr"),
}


def missing() -> dict[str, str]:
    """The packages that are not installed: name for pip → the part of DomainBed that needs it."""
    return {
        pip_name: purpose
        for package, (pip_name, purpose) in OPTIONAL.items()
        if importlib.util.find_spec(package) is None
    }


@contextmanager
def stand_ins(package: str) -> Iterator[None]:
    """Inside the block, ``package`` can be imported even if it is not installed."""
    if importlib.util.find_spec(package) is not None:
        yield
        return
    finder = _Finder(package)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _StandIn)]:
            del sys.modules[name]


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _refusing_class(name, self.__name__.partition(".")[0])


class _Finder(MetaPathFinder, Loader):
    """Finds ``package`` and everything below it."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _refusing_class(name: str, package: str) -> type:
    pip_name, purpose = OPTIONAL[package]

    def refuse(self: object, *args: object, **kwargs: object) -> NoReturn:
        raise RogaError(f"the package {pip_name!r} is needed for {purpose}: pip install {pip_name}")

    return type(name, (), {"__init__": refuse, "__doc__": f"Stands in for {package}'s class."})
