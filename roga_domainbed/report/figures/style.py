"""How figures look: on paper in these colours; on the page each of them stands for a CSS variable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from roga_domainbed.report.figures.figure import Line

INK, MUTED, RULE = "#1f2328", "#6a737d", "#d5dbe1"

#: One colour, dash and marker a slot: neither colour alone nor shape alone tells lines apart.
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

#: What a colour becomes on the page, where light and dark differ.
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
    "text.parse_math": False,  # a name with dollar signs is a name
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and takes the page's font
    "svg.hashsalt": "roga-domainbed",  # equal data, equal file
    "pdf.fonttype": 42,  # publishers refuse type 3
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Inside, matplotlib draws in this style; afterwards whatever was set before holds again."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def line_style(line: Line, *, markers: bool = False) -> dict[str, Any]:
    """Keyword arguments of ``Axes.plot``: told apart by colour, and by markers or else by dashes."""
    style = {"color": SERIES[line.slot], "linewidth": 1.3}
    if markers:
        return style | {"marker": MARKERS[line.slot], "markersize": 3.5}
    return style | {"linestyle": DASHES[line.slot]}


def point_style(line: Line) -> dict[str, Any]:
    """Keyword arguments of ``Axes.scatter`` for an algorithm."""
    return {"color": SERIES[line.slot], "marker": MARKERS[line.slot]}
