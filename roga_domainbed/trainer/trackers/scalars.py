"""What of a record trackers plot, and how they name it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

_KEY = re.compile(r"(plain_)?env(\d{1,4})_([a-z]+)_(\w+)")


def scalars(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    """Name → value of everything in ``record`` that is a finite number, except the step.

    ``env2_out_auc`` becomes ``auc/NT/out``, and ``plain_env2_out_auc`` of a run with averaged weights
    ``plain_auc/NT/out``: trackers group by what stands before the first slash. Others keep their names.

    Args:
        record: a line of ``results.jsonl``.
        names: of the environments, in index order.
    """
    return {
        _named(key, names): value
        for key, value in record.items()
        if key != "step" and type(value) in (int, float) and math.isfinite(value)
    }


def _named(key: str, names: Sequence[str]) -> str:
    match = _KEY.fullmatch(key)
    if match is None or int(match[2]) >= len(names):
        return key
    plain, env, part, metric = match.groups(default="")
    return f"{plain}{metric}/{names[int(env)]}/{part}"
