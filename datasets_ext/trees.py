"""Prepared trees that no dataset is named after, such as those of ``prepare csv`` and ``prepare folder``.

Any folder of ``--data_dir`` with a manifest is a dataset by the folder's name. Its environments are those of the
manifest, in its order. ``add`` gives it a row in the catalog, whose target is an attribute of this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.datasets import add_tree
from roga_domainbed.errors import RogaError, unknown_name

_FILE = "manifest.parquet"  # ``datasets_ext.manifest.FILE``, whose module loads pandas


def trees_in(data_dir: str | os.PathLike) -> list[str]:
    """The names of the prepared trees in ``data_dir``.

    Raises:
        RogaError: it is not a folder.
    """
    if not Path(data_dir).is_dir():
        raise RogaError(f"{str(data_dir)!r} is not a folder; give the one that 'prepare' calls --data_dir")
    return sorted(path.parent.name for path in Path(data_dir).glob(f"*/{_FILE}"))


def add(data_dir: str | os.PathLike | None, names: Iterable[str | None]) -> None:
    """Give a row to each of ``names`` that is a prepared tree in ``data_dir``, unless a dataset has that name.

    Raises:
        RogaError: a manifest cannot be read.
    """
    for name in names:
        if name and (name not in DATASETS or DATASETS.get(name).is_tree) and _is_tree(data_dir, name):
            from datasets_ext import manifest  # not above: most commands, and --help, do without pandas

            rows = manifest.read(Path(data_dir or "", name))
            add_tree(name, dict.fromkeys(rows["env"]))


def problem(name: str, data_dir: str | os.PathLike | None) -> str | None:
    """Why ``name`` is no dataset, neither registered nor a tree in ``data_dir``; None if it is one.

    A tree has its row afterwards.
    """
    try:
        add(data_dir, [name])
    except RogaError as error:
        return str(error)
    if name in DATASETS:
        return None
    here = Path(data_dir) if data_dir and Path(data_dir).is_dir() else None
    known = [*DATASETS.names(), *(trees_in(here) if here else ())]
    found = unknown_name("dataset", name, dict.fromkeys(known))
    if here and _is_plain(name) and (here / name).is_dir():
        found += f". {str(here / name)!r} has no {_FILE}: 'roga-domainbed prepare folder' makes one"
    return found


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and Path(name).name == name and "\0" not in name


def _is_tree(data_dir: str | os.PathLike | None, name: str) -> bool:
    return data_dir is not None and _is_plain(name) and os.path.lexists(Path(data_dir, name, _FILE))


def __getattr__(name: str) -> Any:
    """The class of the tree ``name``."""
    if name not in DATASETS or not DATASETS.get(name).is_tree:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from datasets_ext.folder import ManifestDataset  # torch

    environments = list(DATASETS.get(name).environments)
    return type(
        name, (ManifestDataset,), {"NAME": name, "ENVIRONMENTS": environments, "__module__": __name__}
    )
