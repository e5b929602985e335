"""What a check is, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from roga_domainbed.errors import RogaError


class Skip(Exception):
    """The check cannot be made here; the text is the reason."""


class Failed(Exception):
    """The check was made and the installation does not pass it; the text says what was found and what was expected."""


@dataclass(frozen=True)
class Options:
    """What a check may use.

    Attributes:
        scratch: a folder for its files.
        data_dir: where the user's datasets are; None if nowhere.
        mnist: a folder with the four files of MNIST; None where they are looked for in the package mnist-dir.
        long: whether trainings of hours are wanted.
    """

    scratch: Path
    data_dir: str | None = None
    mnist: str | None = None
    long: bool = False


@dataclass(frozen=True)
class Check:
    """One line of the answer.

    Attributes:
        name: what ``--only`` calls it.
        run: makes the check, and returns what was found in a few words; or raises ``Skip`` or ``Failed``.
    """

    name: str
    run: Callable[[Options], str]


@dataclass(frozen=True)
class Result:
    """How a check ended: ``state`` is ``ok``, ``failed`` or ``skipped``, ``detail`` why."""

    name: str
    state: str
    detail: str
    seconds: float


def make(checks: Iterable[Check], options: Options) -> Iterator[Result]:
    """Make the checks in turn; an error that is none of ours fails the check that met it, and the rest are made."""
    for check in checks:
        start = time.perf_counter()
        try:
            state, detail = "ok", check.run(options)
        except Skip as reason:
            state, detail = "skipped", str(reason)
        except (Failed, RogaError) as error:
            state, detail = "failed", str(error)
        except Exception as error:  # whatever a broken library raises: that is what is asked for
            state, detail = "failed", f"{type(error).__name__}: {error}"
        yield Result(check.name, state, " ".join(detail.split()), time.perf_counter() - start)


def expect(condition: bool, message: str) -> None:
    """Raise ``Failed`` with ``message`` unless ``condition``."""
    if not condition:
        raise Failed(message)
