"""Counts of a prepared tree: images, videos, recordings and people by environment and split."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
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


def draw(tables: dict[str, pd.DataFrame], path: str) -> None:
    """Draw ``summarize``'s tables as bars: videos and images of each environment, by class and split.

    Args:
        tables: dataset → its table.
        path: the file; its suffix decides the format (png, pdf, svg).
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bars = [
        (f"{name}: {env}" if name != env else name, label, own)
        for name, table in tables.items()
        for env, own in _environments(table)
        for label in ("real", "fake")
    ]
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.4 + 0.34 * len(bars)), sharey=True, layout="constrained")
    for axis, unit in zip(axes, ("videos", "images"), strict=True):
        for position, (_, label, own) in enumerate(bars):
            _draw_bar(axis, position + position // 2 * 0.5, own, f"{label}_{unit}", _COLOURS[label])
        axis.set_xlabel(unit)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.margins(x=0.12)
    positions = [position + position // 2 * 0.5 for position in range(len(bars))]
    axes[0].set_yticks(
        positions, [f"{title}  {label}" if label == "real" else label for title, label, _ in bars]
    )
    axes[0].invert_yaxis()
    _draw_legend(figure, {split for _, _, own in bars for split in own["split"]})
    figure.savefig(path, dpi=150)
    plt.close(figure)


#: Class → colour of each split, dark to light; the colour-blind can tell the two classes apart.
_COLOURS = {
    "real": {"train": "#08519c", "val": "#4292c6", "test": "#9ecae1", _NO_SPLIT: "#5f7d9c"},
    "fake": {"train": "#a63603", "val": "#f16913", "test": "#fdae6b", _NO_SPLIT: "#b07a5a"},
}


def _environments(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each environment and its rows, without the sums."""
    parts = table[table["split"] != "all"]
    return [(env, parts[parts["env"] == env]) for env in parts["env"].unique()]


def _draw_bar(axis: Any, position: float, own: pd.DataFrame, column: str, colours: dict[str, str]) -> None:
    left = 0
    for split, count in zip(own["split"], own[column], strict=True):
        axis.barh(
            position, count, left=left, height=0.9, color=colours[split], edgecolor="white", linewidth=0.5
        )
        left += count
    axis.annotate(
        f"{left:,}", (left, position), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8
    )


def _draw_legend(figure: Any, splits: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            color=_COLOURS[label][split],
            label=f"{label}, {split}" if split != _NO_SPLIT else f"{label}, no split",
        )
        for label in _COLOURS
        for split in (*SPLITS, _NO_SPLIT)
        if split in splits
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
