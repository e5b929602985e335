"""Several saved runs side by side, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.inference.saved_run import SavedRun, load_run


def load_runs(
    where: Sequence[str], names: Sequence[str] = (), device: torch.device | None = None
) -> dict[str, SavedRun]:
    """Load the models of several runs; all that cannot be loaded is said at once.

    Args:
        where: folders of runs, or model files.
        names: what to call them; else each is called by its row in the tables of its sweep, or by its folder where two
            have the same.
        device: where to; None for the GPU if there is one.

    Returns:
        Name → run, in the order given.
    """
    problems, found = Problems(), []
    for place in where:
        try:
            found.append(load_run(place, device))
        except RogaError as error:
            problems.add(str(error))
    problems.check()
    return dict(zip(names or _names(where, found), found, strict=True))


def row_name(run: SavedRun) -> str:
    """The row of its sweep's tables that a run belongs to; of a run without a sweep, its algorithm."""
    return str(run.args.get("row") or run.args.get("algorithm"))


def _names(where: Sequence[str], runs: Sequence[SavedRun]) -> list[str]:
    rows = list(map(row_name, runs))
    folders = [Path(place).resolve().name for place in where]
    for names in (rows, folders, list(where)):
        if len(set(names)) == len(names):
            return names
    raise RogaError("a run is there twice: give each once")
