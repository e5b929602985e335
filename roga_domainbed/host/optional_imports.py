"""DomainBed imports ``wilds`` when its datasets are imported. Here, only who uses WILDS data needs it.

While a checkout's ``datasets`` module is imported, a package that is missing is represented by modules whose
every attribute is a class that says, when it is used, what to install. Afterwards the stand-ins are gone again: nobody
else's ``import wilds`` is answered by them, and the checkout stays as it is.
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

#: Package → what of DomainBed needs it. pip knows each under the name beside it.
OPTIONAL = {
    "wilds": ("wilds", "the WILDS datasets (WILDSCamelyon, WILDSFMoW)"),
    "backpack": ("backpack-for-pytorch", "the algorithm Fishr"),
}


def missing() -> dict[str, str]:
    """What is not installed: the package's name for pip → what of DomainBed it is needed for."""
    return {
        pip_name: purpose
        for package, (pip_name, purpose) in OPTIONAL.items()
        if importlib.util.find_spec(package) is None
    }


@contextmanager
def stand_ins(package: str) -> Iterator[None]:
    """Answer imports of ``package`` inside the block; do nothing where it is installed."""
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
