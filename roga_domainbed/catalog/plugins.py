"""Other packages' algorithms, datasets, launchers and renderers: found through an entry-point group.

A package declares a function of no arguments in the group ``roga_domainbed.plugins``; it is called once, before
the first look into a registry, and adds its rows (docs/add-your-own.md). It should import nothing heavy: rows name
their classes by a dotted target that is imported on first use.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

GROUP = "roga_domainbed.plugins"


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group.

    Attributes:
        name: the entry point's name.
        package: the distribution that declares it, with its version.
        target: ``"module:function"``.
        error: why it could not be loaded; empty if it was.
    """

    name: str
    package: str
    target: str
    error: str = ""


_loaded: list[Plugin] | None = None


def load_plugins() -> list[Plugin]:
    """Call every declared function, once per process, and return what became of each.

    A plugin that fails is named on stderr and left out; everything else still works.
    """
    global _loaded
    if _loaded is None:
        _loaded = []  # before the loop: the functions look into registries themselves
        for entry in sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value)):
            plugin = _call(entry)
            if plugin.error:
                print(f"Warning: the plugin {plugin.name!r} is left out: {plugin.error}", file=sys.stderr)
            _loaded.append(plugin)
    return _loaded


def _call(entry: EntryPoint) -> Plugin:
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown package"
    try:
        entry.load()()
    except Exception as error:
        reason = f"{entry.value} of {package} raised {type(error).__name__}: {error}"
        return Plugin(entry.name, package, entry.value, reason)
    return Plugin(entry.name, package, entry.value)
