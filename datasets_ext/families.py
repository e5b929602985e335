"""Recordings and people by names that hold across data sets.

``000`` in two versions of FaceForensics++ is one recording, in FaceForensics++ and in another data set it is two. Where
data sets are combined (``datasets_ext.combined``) the names already begin with the family; here those of a single
tree are made to, so that what a model was trained on can be compared with any other data.
"""

from __future__ import annotations

import pandas as pd

from datasets_ext.combined import CombinedDataset

#: Data set → the family whose recordings or people it shares; others are families of their own.
FAMILIES = {
    **{
        source.tree: source.family
        for dataset in CombinedDataset.__subclasses__()
        for source in dataset.SOURCES
    },
    **dict.fromkeys(("FFPP_c40", "FFPP_raw"), "FFPP"),
}


def family(dataset: str) -> str:
    """The family of a prepared data set."""
    return FAMILIES.get(dataset, dataset)


def with_family(rows: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows whose recordings and people begin with the family of their data set; rows that do stay.

    Args:
        rows: of one environment.
    """
    known: dict[tuple[str, str], str] = {}  # thousands of frames have the same

    def prefixed(dataset: str, names: list[str], key: str) -> str:
        if (dataset, key) not in known:
            prefix = f"{family(dataset)}/"
            known[dataset, key] = "+".join(
                name if name.startswith(prefix) else prefix + name for name in names if name
            )
        return known[dataset, key]

    recordings = [
        prefixed(dataset, [name], name)
        for dataset, name in zip(rows["dataset"], rows["recording"], strict=True)
    ]
    known.clear()
    people = [
        prefixed(dataset, joined.split("+"), joined)
        for dataset, joined in zip(rows["dataset"], rows["identities"], strict=True)
    ]
    return rows.assign(recording=recordings, identities=people)
