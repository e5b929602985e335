"""Prepared trees in miniature, of generated faces: the folders of a published dataset without its data.

For rehearsals: datasets, splits and the audit read them like the trees that ``prepare`` makes. What is learnt on them
says nothing about the dataset whose name they have.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from datasets_ext import manifest
from datasets_ext.synthfake.generate import PARAMETERS, generate
from roga_domainbed.catalog import DATASETS

_PEOPLE, _FRAMES, _SIZE = 9, 2, 32  # six people train, one validates, two test


def write_miniatures(root: str | os.PathLike, trees: Iterable[str]) -> None:
    """Make ``<root>/<tree>`` for each of ``trees`` that is not there: a few hundred frames of 32 pixels in all.

    A tree that is registered as a dataset has its environments, which are SynthFake's; any other has one environment
    of its own name. Each has people of its own, and an official split.

    Args:
        root: the data folder; made if it does not exist.
        trees: such as ``FFPP`` and ``UADFV``.

    Raises:
        RogaError: it cannot be written.
    """
    os.makedirs(root, exist_ok=True)
    for seed, tree in enumerate(trees):
        if not Path(root, tree, manifest.FILE).exists():
            with TemporaryDirectory(prefix=f".{tree}.", dir=root) as building:
                made = generate(building, seed, _PEOPLE, _FRAMES, _SIZE)
                _rename(made, tree)
                made.rename(Path(root, tree))  # whole or not at all


def _rename(made: Path, tree: str) -> None:
    """Turn the tree of SynthFake in ``made`` into one called ``tree``."""
    rows = manifest.read(made).assign(dataset=tree)
    if tree not in DATASETS:
        env = rows["env"].iloc[0]
        rows = rows[rows["env"] == env]
        (made / env).rename(made / tree)
        rows = rows.assign(env=tree, path=rows["path"].str.replace(f"{env}/", f"{tree}/", n=1, regex=False))
    (made / PARAMETERS).unlink()  # of another dataset
    manifest.write(made, rows)
