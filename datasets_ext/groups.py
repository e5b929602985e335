"""Groups of manifest rows that belong together: what shares a recording or a person, directly or through others."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd


def group_keys(columns: pd.DataFrame, same_source: Collection[Collection[str]] = ()) -> pd.Series:
    """A name for the group of each row: its smallest member, so that the order of rows changes nothing.

    Args:
        columns: ``recording`` and ``identities`` of each row; people are joined by ``+``, empty ones are of nobody.
        same_source: sets of recordings that belong together although no row says so.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    def link(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parent[high] = low

    for recording, identities in columns.drop_duplicates().itertuples(index=False, name=None):
        root(f"recording {recording}")
        for person in filter(None, identities.split("+")):
            link(f"recording {recording}", f"person {person}")
    for recordings in same_source:
        first, *others = recordings
        for other in others:
            link(f"recording {first}", f"recording {other}")
    return columns["recording"].map(
        {name: root(f"recording {name}") for name in columns["recording"].unique()}
    )
