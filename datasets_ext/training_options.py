"""What of the training part is trained on: ``--reals``, ``--balance`` and ``--strict``, as values.

They thin out what training environments train on, by the manifest; files, validation and test parts stay as they are.
``datasets_ext.training_rows`` carries them out. No pandas here: the command line reads this for its help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roga_domainbed.errors import unknown_name

#: ``shared``: every environment has all its reals, as published protocols do. ``partitioned``: environments that have
#: recordings or people in common divide them among themselves.
REALS = ("shared", "partitioned")

_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True)
class TrainingOptions:
    """What of the training part is trained on; by default all of it.

    Attributes:
        reals: one of ``REALS``.
        balance: ``R:F``, videos real to fake of each training environment; None for what there is.
        strict: leave out what has a source video in common with validation or test.
    """

    reals: str = REALS[0]
    balance: str | None = None
    strict: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """Those among ``values``, by name; the default for the others."""
        return cls(**{name: values[name] for name in vars(cls()) if name in values})

    def problems(self, split: str | None) -> list[str]:
        """What is wrong with them, together with ``--split`` (None where it is not given); a sentence each."""
        found = []
        if self.reals not in REALS:
            found.append(unknown_name("way to treat reals (--reals)", str(self.reals), REALS))
        if self.balance is not None and self.ratio is None:
            found.append(
                f"--balance must be videos real to fake in whole numbers, such as 1:1 or 1:4; got {self.balance!r}"
            )
        if self.strict and split == "frame":
            found.append(
                "--strict goes with --split official or group: a frame split mixes all videos anyway"
            )
        return found

    @property
    def ratio(self) -> tuple[int, int] | None:
        """``balance`` as (real, fake); None if there is none, or it is no ratio."""
        found = _RATIO.fullmatch(self.balance) if isinstance(self.balance, str) else None
        return None if found is None else (int(found[1]), int(found[2]))

    def described(self) -> list[str]:
        """Those that are not the default, in the words of tables."""
        said = [f"reals {self.reals}"] * (self.reals != REALS[0])
        said += [f"real:fake {self.balance}"] * (self.balance is not None)
        return said + ["strict"] * self.strict

    def given(self) -> dict[str, Any]:
        """Name → value of those that are not the default: what a record and a job's folder have to tell."""
        default = TrainingOptions()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}

    def keyword(self) -> dict[str, TrainingOptions]:
        """For ``split_indices(…, **options.keyword())``: a data set of someone else may not know the argument."""
        return {"options": self} if self.given() else {}
