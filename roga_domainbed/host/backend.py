"""The DomainBed that this process runs on: an upstream checkout or the embedded engine.

``DOMAINBED_HOME`` names the checkout. If it is not set, an installed ``domainbed`` is used, or else the engine. All
modules of the plugin reach DomainBed through ``host()``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from roga_domainbed.errors import RogaError
from roga_domainbed.host.checkout import is_checkout, require_supported
from roga_domainbed.host.optional_imports import stand_ins

#: Attribute of ``Host`` → module of the package. The engine lacks ``_UPSTREAM_ONLY``.
_MODULES = {
    "algorithms": "algorithms",
    "datasets": "datasets",
    "hparams_registry": "hparams_registry",
    "networks": "networks",
    "misc": "lib.misc",
}
_UPSTREAM_ONLY = {"command_launchers": "command_launchers", "fast_data_loader": "lib.fast_data_loader"}


class Host:
    """The DomainBed in use: its modules are attributes, imported on first use.

    Attributes:
        name: ``"engine"`` or ``"upstream"``.
        package: the package of its modules.
        home: the folder of the checkout; None for the engine.
    """

    algorithms: ModuleType
    datasets: ModuleType
    hparams_registry: ModuleType
    networks: ModuleType
    misc: ModuleType
    command_launchers: ModuleType  # checkout only
    fast_data_loader: ModuleType  # checkout only

    def __init__(self, name: str, package: str, home: Path | None):
        self.name, self.package, self.home = name, package, home

    def __getattr__(self, module: str) -> ModuleType:
        modules = _MODULES if self.home is None else _MODULES | _UPSTREAM_ONLY
        if module not in modules:
            raise AttributeError(f"{self!r} has no module {module!r}")
        path = f"{self.package}.{modules[module]}"
        try:
            with stand_ins("wilds"):
                value = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if self.home is None or (error.name or "").startswith(self.package):
                raise
            raise RogaError(
                f"the DomainBed checkout {self.home} needs the package {error.name!r}: pip install {error.name}"
            ) from None
        setattr(self, module, value)
        return value

    def __repr__(self) -> str:
        return f"Host({self.name}{f' at {self.home}' if self.home else ''})"


@functools.cache
def host() -> Host:
    """The DomainBed of this process, chosen on the first call."""
    wanted = os.environ.get("DOMAINBED_HOME")
    if wanted:
        home = Path(wanted).expanduser().resolve()
        if not is_checkout(home):
            raise RogaError(
                f"DOMAINBED_HOME={wanted!r} is not a DomainBed checkout: there is no domainbed/algorithms.py in "
                "it. Set it to the folder that git clone made, or unset it to use the embedded engine"
            )
        require_supported(home)
        sys.path.insert(0, str(home))  # in front of any other domainbed
        return Host("upstream", "domainbed", home)
    spec = importlib.util.find_spec("domainbed")
    if spec is not None and spec.submodule_search_locations:
        home = Path(next(iter(spec.submodule_search_locations))).parent
        if is_checkout(home):
            require_supported(home)
            return Host("upstream", "domainbed", home)
    return Host("engine", "roga_domainbed.engine", None)
