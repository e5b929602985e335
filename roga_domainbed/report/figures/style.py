"""The style of figures: these colours on paper; on the page each becomes a CSS variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from roga_domainbed.report.figures.figure import Line

INK, MUTED, RULE = "#1f2328", "#6a737d", "#d5dbe1"

#: A colour, a dash and a marker for each slot, so that lines differ in more than their colour.
SERIES = ("#1f6feb", "#c9372c", "#0b8a6a", "#9a5b00", "#7d4cc2", "#b8408f", "#4d6b8a", "#6b7d00")
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    "-",
    (0, (3, 1)),
    (0, (8, 2)),
    (0, (2, 2)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

#: The CSS variable for each colour: the page has a light and a dark theme.
CSS_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"} | {
    color: f"--series-{slot}" for slot, color in enumerate(SERIES)
}

_RC: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
    "text.parse_math": False,  # names may contain dollar signs
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",  # text stays text: searchable, read aloud, in the font of the page
    "svg.hashsalt": "roga-domainbed",  # the same data give the same file
    "pdf.fonttype": 42,  # publishers refuse type 3
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw in this style inside the block; matplotlib's settings are restored afterwards."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def line_style(line: Line, *, markers: bool = False) -> dict[str, Any]:
    """Keyword arguments of ``Axes.plot``: colour with markers, or colour with dashes."""
    style = {"color": SERIES[line.slot], "linewidth": 1.3}
    if markers:
        return style | {"marker": MARKERS[line.slot], "markersize": 3.5}
    return style | {"linestyle": DASHES[line.slot]}


def point_style(line: Line) -> dict[str, Any]:
    """Keyword arguments of ``Axes.scatter``."""
    return {"color": SERIES[line.slot], "marker": MARKERS[line.slot]}
