"""Options of the training data: ``--reals``, ``--balance``, ``--strict``, ``--label_noise``, ``--train_fraction``.

The first three select manifest rows of training environments and need a manifest; the others take any dataset. No file
is changed, and nothing of test environments. ``datasets_ext.training_rows`` applies them. This module imports no
pandas: the command line needs it for its help.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from roga_domainbed.catalog.values import argument
from roga_domainbed.errors import unknown_name

#: ``shared``: every environment keeps all its reals, as in published protocols. ``partitioned``: environments divide
#: the recordings and people that they share.
REALS = ("shared", "partitioned")

#: What the two shares may be.
LABEL_NOISE = {"at_least": 0, "at_most": 1}
TRAIN_FRACTION = {"above": 0, "at_most": 1}

_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True)
class TrainingOptions:
    """What of the training part is trained on, and with which labels; by default all, with the true ones.

    Attributes:
        reals: one of ``REALS``.
        balance: ``R:F``, the ratio of real to fake videos in each training environment; None for all videos.
        strict: leave out rows that share a source video with validation or test.
        label_noise: share of the labels of training environments that are drawn again, in [0, 1].
        train_fraction: share of the training part that is trained on, in (0, 1].
    """

    reals: str = REALS[0]
    balance: str | None = None
    strict: bool = False
    label_noise: float = argument(0.0, **LABEL_NOISE)
    train_fraction: float = argument(1.0, **TRAIN_FRACTION)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TrainingOptions:
        """The options among ``values``, by name; defaults for the others."""
        return cls(**{name: values[name] for name in vars(cls()) if name in values})

    def problems(self, split: str | None) -> list[str]:
        """What is wrong with them and ``--split`` (None if not given); a sentence each.

        The shares are left to ``catalog.values.check_arguments``.
        """
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
        found += ["strict"] * self.strict
        shares = (("label_noise", self.label_noise), ("train_fraction", self.train_fraction))
        return found + [said_of_share(name, value) for name, value in shares if name in self.given()]

    def given(self) -> dict[str, Any]:
        """Name → value of the options that are not the default, for records and job folders."""
        default = TrainingOptions()
        found = {name: value for name, value in vars(self).items() if value != getattr(default, name)}
        # 1 of a plan's file and 1.0 of the command line are one job
        return {name: float(value) if type(value) is int else value for name, value in found.items()}

    @property
    def of_manifest(self) -> TrainingOptions:
        """Those that need a manifest; the others are the default."""
        return replace(self, label_noise=0.0, train_fraction=1.0)

    def keyword(self) -> dict[str, TrainingOptions]:
        """For ``split_indices(…, **options.keyword())``: another package's dataset may not have the argument."""
        return {"options": self} if self.given() else {}


def said_of_share(name: str, value: Any) -> str:
    """``label noise 40 %`` or ``15 % of the training part``, as tables print it; empty for another name.

    Args:
        name: of the option.
        value: a number or its text; a record of somebody else may hold anything, which is said as it is.
    """
    words = {"label_noise": "label noise {}", "train_fraction": "{} of the training part"}
    try:
        share = f"{100 * float(value):g} %"
    except (TypeError, ValueError):
        share = str(value)
    return words[name].format(share) if name in words else ""
