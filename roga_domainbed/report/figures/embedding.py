"""Features in the plane as a figure: a column a run, by class above and by environment below."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.drawing import quiet_about_glyphs, write_canvas
from roga_domainbed.report.figures.style import INK, MUTED, RULE, SERIES, paper_style

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.embedding import Embedding, Embeddings

_SIDE, _LEGEND = 2.5, 1.15  # inches: of a panel, and of the legend beside them
_SHARED = "several"
_CLASSES = (("real", SERIES[0]), ("fake", SERIES[1]))
_LONGEST = 24


def save_embeddings(found: Embeddings, path: Path) -> None:
    """Draw ``found`` into ``path``, whose suffix is one of ``drawing.FORMATS``."""
    labels = np.array([sample.label for sample in found.samples])
    envs = [one_line(s.env_names[0]) if len(s.env_names) == 1 else _SHARED for s in found.samples]
    colors = {
        env: SERIES[slot % len(SERIES)] for slot, env in enumerate(dict.fromkeys(envs)) if env != _SHARED
    }
    if _SHARED in envs:
        colors[_SHARED] = MUTED
    n_rows = 2 if len(colors) > 1 else 1
    # In another order the last environment would cover the others.
    order = np.random.Generator(np.random.Philox(0)).permutation(len(labels))
    with paper_style(), quiet_about_glyphs(path.suffix == ".svg"):
        canvas = Canvas(
            figsize=(len(found.runs) * _SIDE + _LEGEND, n_rows * _SIDE + 0.2),
            layout="constrained",
            facecolor="white",
        )
        axes = canvas.subplots(n_rows, len(found.runs), squeeze=False)
        for column, run in zip(axes.T, found.runs, strict=True):
            column[0].set_title(_title(run))
            _draw(
                column[0], run.xy[order], [_CLASSES[label][1] for label in labels[order]], labels[order] >= 0
            )
            if n_rows > 1:
                of_env = [colors[envs[place]] for place in order]
                _draw(column[1], run.xy[order], of_env, labels[order] == 1)
        _legend(axes[0, -1], [(name, color, True) for name, color in _CLASSES], "class")
        if n_rows > 1:
            entries = [(env, color, True) for env, color in colors.items() if env != _SHARED]
            entries += [("real, of several", MUTED, False)] * (_SHARED in colors)
            entries += [] if _SHARED in colors else [("real", INK, False)]
            _legend(axes[1, -1], entries, "environment")
        _note(canvas, found)
        write_canvas(canvas, path)


def _draw(axes: Axes, xy: np.ndarray, colors: list[str], filled: np.ndarray) -> None:
    """Points of these colours, some of them hollow."""
    size = float(np.clip(6000 / len(xy), 2.5, 16))
    edges = np.array([to_rgba(color, 0.8) for color in colors])
    faces = edges.copy()
    faces[~filled, 3] = 0
    axes.scatter(
        xy[:, 0], xy[:, 1], s=size, facecolors=faces, edgecolors=edges, linewidths=0.5, rasterized=True
    )
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


def _legend(axes: Axes, entries: list[tuple[str, str, bool]], title: str) -> None:
    handles = [
        Line2D(
            [],
            [],
            ls="",
            marker="o",
            ms=4,
            color=color,
            mfc=color if is_filled else "none",
            label=_short(name),
        )
        for name, color, is_filled in entries
    ]
    axes.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        handletextpad=0.2,
        alignment="left",
    )


def _title(run: Embedding) -> str:
    value = "one class alone" if run.silhouette is None else f"silhouette {run.silhouette:.2f}"
    return f"{_short(run.name)}: {value}"


def _note(canvas: Canvas, found: Embeddings) -> None:
    lines = [f"t-SNE of {len(found.samples):,} test images of {one_line(found.data.name)}"]
    lines += [one_line(note) for note in found.notes if note.startswith("LEAK")]
    canvas.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=6.5, color=MUTED)


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}…{name[-8:]}"
