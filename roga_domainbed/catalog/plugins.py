"""Other packages' algorithms, datasets, launchers and renderers: found through an entry-point group.

A package declares a function of no arguments in the group ``roga_domainbed.plugins``; it is called once, before
the first look into a registry, and adds its rows (docs/add-your-own.md). It should import nothing heavy: rows name
their classes by a dotted target that is imported on first use.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points

GROUP = "roga_domainbed.plugins"
PATIENCE_S = 20  # for one plugin; it should import nothing heavy


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

    A plugin that fails, exits or hangs is named on stderr and left out; everything else still works.
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
    found = Plugin(entry.name, package, entry.value)
    try:
        # Whatever it prints is not part of a command's output.
        with contextlib.redirect_stdout(sys.stderr), _time_limit():
            entry.load()()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit(0) would end the command as if it were done
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return replace(found, error=f"{entry.value} of {package} raised {what}")
    return found


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Inside, whatever takes longer than ``PATIENCE_S`` raises ``TimeoutError``, where the system can interrupt it."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"not ready after {PATIENCE_S} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
