"""Features in the plane as a figure: a column a run, by class above and by environment below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.drawing import Drawing
from roga_domainbed.report.figures.style import INK, MUTED, RULE, SERIES

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.embedding import Embedding, Embeddings

_SIDE, _BESIDE = 2.5, 1.2  # inches: of a panel, and of the legends
_SHARED = "#7d868f"  # a grey of its own: that of text depends on the page
_CLASSES = {"real": SERIES[0], "fake": SERIES[1]}
_OF_ENVIRONMENTS = SERIES[2:]  # no colour means a class above and an environment below
_AREA, _SMALLEST, _LARGEST = 6000, 2.5, 16  # square points: of all points together, of one
_LONGEST = 20  # letters of a name


def embeddings_drawing(found: Embeddings) -> Drawing:
    """``found`` as a figure."""
    return Drawing(f"t-SNE of {len(found.samples)} test images", lambda: _canvas(found))


def _canvas(found: Embeddings) -> Canvas:
    envs = [sample.env_names[0] if len(sample.env_names) == 1 else None for sample in found.samples]
    names = [name for name in dict.fromkeys(envs) if name is not None]
    colors = dict(zip(names, _colors(len(names)), strict=True))
    is_fake = np.array([sample.label == 1 for sample in found.samples])
    # In their own order the last environment would cover the others.
    order = np.random.Generator(np.random.Philox(0)).permutation(len(is_fake))
    by_class = [_CLASSES["fake" if fake else "real"] for fake in is_fake[order]]
    by_env = [_SHARED if envs[place] is None else colors[envs[place]] for place in order]
    n_rows = 2 if len(names) > 1 else 1
    size = (len(found.runs) * _SIDE + _BESIDE, n_rows * _SIDE + 0.2)
    canvas = Canvas(figsize=size, layout="constrained", facecolor="white")
    axes = canvas.subplots(n_rows, len(found.runs), squeeze=False)
    for column, run in zip(axes.T, found.runs, strict=True):
        column[0].set_title(_title(run))
        _draw(column[0], run.xy[order], by_class, np.ones(len(order), bool))
        if n_rows > 1:
            _draw(column[1], run.xy[order], by_env, is_fake[order])
    _legend(axes[0, -1], [(name, color, True) for name, color in _CLASSES.items()])
    if n_rows > 1:
        entries = [(name, color, True) for name, color in colors.items()]
        if any(env is not None and not fake for env, fake in zip(envs, is_fake, strict=True)):
            entries.append(("real", INK, False))
        if None in envs:
            entries.append(("real, shared", _SHARED, False))
        _legend(axes[1, -1], entries)
    canvas.supxlabel("\n".join(_notes(found)), x=0.01, ha="left", fontsize=6.5, color=MUTED)
    return canvas


def _colors(n: int) -> Sequence[str]:
    if n <= len(_OF_ENVIRONMENTS):
        return _OF_ENVIRONMENTS[:n]
    return [to_hex(colormaps["turbo"](place)) for place in np.linspace(0.05, 0.95, n)]


def _draw(axes: Axes, xy: np.ndarray, colors: Sequence[str], filled: np.ndarray) -> None:
    """Points (N, 2) of N colours, filled or hollow; as pixels in SVG and PDF, where thousands would be slow."""
    edges = np.array([to_rgba(color, 0.8) for color in colors])
    faces = edges.copy()
    faces[~filled, 3] = 0
    size = float(np.clip(_AREA / len(xy), _SMALLEST, _LARGEST))
    style = {"facecolors": faces, "edgecolors": edges, "linewidths": 0.5, "rasterized": True}
    axes.scatter(xy[:, 0], xy[:, 1], s=size, **style)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.set_box_aspect(1)
    for spine in axes.spines.values():
        spine.set(visible=True, color=RULE)


def _legend(axes: Axes, entries: Sequence[tuple[str, str, bool]]) -> None:
    """Beside ``axes``, an entry for each (name, colour, whether filled)."""
    handles = [
        Line2D(
            [], [], ls="", marker="o", ms=4, color=color, mfc=color if filled else "none", label=_short(name)
        )
        for name, color, filled in entries
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1.0), handletextpad=0.2)


def _title(run: Embedding) -> str:
    value = "one class alone" if run.silhouette is None else f"silhouette {run.silhouette:.2f}"
    return f"{_short(run.name)}: {value}"


def _notes(found: Embeddings) -> list[str]:
    n = len(found.samples)
    return [
        f"t-SNE of the features of {n:,} test images of {one_line(found.data.name)}",
        *(one_line(note) for note in found.notes if note.startswith("LEAK")),
    ]


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}…{name[-8:]}"
