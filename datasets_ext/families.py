"""Names of recordings and people that are unique across datasets: they begin with the family.

``000`` is the same recording in two versions of FaceForensics++, but not in FaceForensics++ and another dataset. The
names of combined datasets (``datasets_ext.combined``) begin with the family already. Here those of a single tree get
the prefix, so that training data can be compared with any other data.
"""

from __future__ import annotations

import pandas as pd

from datasets_ext.combined import CombinedDataset

#: Dataset → the family whose recordings or people it shares; any other dataset is a family of its own.
FAMILIES = {
    **{
        source.tree: source.family
        for dataset in CombinedDataset.__subclasses__()
        for source in dataset.SOURCES
    },
    **dict.fromkeys(("FFPP_c40", "FFPP_raw"), "FFPP"),
}


def family(dataset: str) -> str:
    """The family of a prepared dataset."""
    return FAMILIES.get(dataset, dataset)


def with_family(rows: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows with the family before recordings and people, where it is not there yet.

    Args:
        rows: of one environment.
    """
    known: dict[tuple[str, str], str] = {}  # thousands of frames share one

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
