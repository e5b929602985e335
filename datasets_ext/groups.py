"""Groups of manifest rows that must stay together: rows that share a recording or a person, directly or by a chain."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def group_keys(columns: pd.DataFrame, same_source: Collection[Collection[str]] = ()) -> pd.Series:
    """The group of each row, named by its smallest member: the order of the rows does not matter.

    Args:
        columns: ``recording`` and ``identities`` of each row. People are joined by ``+``; unnamed people link nothing.
        same_source: sets of recordings that belong together although no row links them.
    """
    links = [
        (f"recording {recording}", f"person {person}")
        for recording, identities in columns.drop_duplicates().itertuples(index=False, name=None)
        for person in identities.split("+")
        if person
    ]
    links += [
        (f"recording {first}", f"recording {other}") for first, *others in same_source for other in others
    ]
    recordings = columns["recording"].unique()
    names = sorted({name for link in links for name in link} | {f"recording {name}" for name in recordings})
    number = {name: index for index, name in enumerate(names)}
    ends = np.array([(number[one], number[other]) for one, other in links], dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(links)), ends), shape=(len(names), len(names)))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)  # names are sorted: the first is the smallest
    return columns["recording"].map(
        {name: names[smallest[component[number[f"recording {name}"]]]] for name in recordings}
    )
