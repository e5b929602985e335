"""Counts of a prepared tree: images, videos, recordings and people by environment and split."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd

from datasets_ext.manifest import FAKE, REAL, SPLITS
from roga_domainbed.results.text_table import text_table

#: Column → its heading in the table.
COLUMNS = {
    "env": "environment",
    "split": "split",
    "real_videos": "real videos",
    "fake_videos": "fake videos",
    "balance": "real:fake",
    "real_images": "real images",
    "fake_images": "fake images",
    "recordings": "recordings",
    "people": "people",
}
_NO_SPLIT = "none"
_VIDEO = ["label", "method", "recording", "video"]


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each environment and split, a sum for each environment with several splits, and a sum over all.

    Videos are told apart by class, method, recording and name. So a video that several environments share, such as
    FaceForensics++'s reals, counts once in the last row, and so do its images.

    Args:
        rows: of a manifest.

    Returns:
        The columns of ``COLUMNS``; ``people`` is NA where no person is named.
    """
    lines = []
    for env in rows["env"].unique():
        own = rows[rows["env"] == env]
        splits = [split for split in (*SPLITS, "") if (own["split"] == split).any()]
        lines += [_line(own[own["split"] == split], env, split or _NO_SPLIT) for split in splits]
        if len(splits) > 1:
            lines.append(_line(own, env, "all"))
    if rows["env"].nunique() > 1:
        lines.append(_line(rows, "all", "all"))
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    return table.astype({"people": "Int64"})


def _line(rows: pd.DataFrame, env: str, split: str) -> dict[str, Any]:
    videos = rows.drop_duplicates(_VIDEO)["label"].value_counts()
    images = rows.drop_duplicates([*_VIDEO, "frame"])["label"].value_counts()
    n_real, n_fake = (int(videos.get(label, 0)) for label in (REAL, FAKE))
    people = {person for joined in rows["identities"].unique() for person in joined.split("+") if person}
    return {
        "env": env,
        "split": split,
        "real_videos": n_real,
        "fake_videos": n_fake,
        "balance": f"1:{n_fake / n_real:.3g}" if n_real else "-",
        "real_images": int(images.get(REAL, 0)),
        "fake_images": int(images.get(FAKE, 0)),
        "recordings": rows["recording"].nunique(),
        "people": len(people) or None,
    }


def as_text(table: pd.DataFrame) -> str:
    """``summarize``'s table with headings, indented by two spaces."""
    rows = [["-" if value is pd.NA else str(value) for value in row] for row in table.itertuples(index=False)]
    return textwrap.indent(text_table([list(COLUMNS.values()), *rows], n_left=2), "  ").rstrip()
