"""Options that reduce the training part: ``--reals``, ``--balance`` and ``--strict``.

They select manifest rows of training environments; files, validation and test parts stay as they are.
``datasets_ext.training_rows`` applies them. This module imports no pandas: the command line needs it for its help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roga_domainbed.errors import unknown_name

#: ``shared``: every environment keeps all its reals, as in published protocols. ``partitioned``: environments divide
#: the recordings and people that they share.
REALS = ("shared", "partitioned")

_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True)
class TrainingOptions:
    """Which rows of the training part are trained on; by default all.

    Attributes:
        reals: one of ``REALS``.
        balance: ``R:F``, the ratio of real to fake videos in each training environment; None for all videos.
        strict: leave out rows that share a source video with validation or test.
    """

    reals: str = REALS[0]
    balance: str | None = None
    strict: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The options among ``values``, by name; defaults for the others."""
        return cls(**{name: values[name] for name in vars(cls()) if name in values})

    def problems(self, split: str | None) -> list[str]:
        """What is wrong with them and ``--split`` (None if not given); a sentence each."""
        found = []
        if self.reals not in REALS:
            found.append(unknown_name("way to treat reals (--reals)", str(self.reals), REALS))
        if self.balance is not None and self.ratio is None:
            found.append(
                f"--balance must be the ratio of real to fake videos, such as 1:1 or 1:4; got {self.balance!r}"
            )
        if self.strict and split == "frame":
            found.append("--strict needs --split official or group: a frame split mixes all videos anyway")
        return found

    @property
    def ratio(self) -> tuple[int, int] | None:
        """``balance`` as (real, fake); None if it is not given or not a ratio."""
        found = _RATIO.fullmatch(self.balance) if isinstance(self.balance, str) else None
        return None if found is None else (int(found[1]), int(found[2]))

    def described(self) -> list[str]:
        """The options that are not the default, as tables print them."""
        found = [f"reals {self.reals}"] * (self.reals != REALS[0])
        found += [f"real:fake {self.balance}"] * (self.balance is not None)
        return found + ["strict"] * self.strict

    def given(self) -> dict[str, Any]:
        """Name → value of the options that are not the default, for records and job folders."""
        default = TrainingOptions()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}

    def keyword(self) -> dict[str, TrainingOptions]:
        """For ``split_indices(…, **options.keyword())``: another package's dataset may not have the argument."""
        return {"options": self} if self.given() else {}
