"""Draw figures: as PDF, SVG or PNG files, and as inline SVG for the page."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

from roga_domainbed.files import replacing
from roga_domainbed.foreign import one_line
from roga_domainbed.report.figures.figure import Figure, Line, Panel
from roga_domainbed.report.figures.style import (
    CSS_VARIABLES,
    DASHES,
    INK,
    MARKERS,
    MUTED,
    RULE,
    SERIES,
    line_style,
    paper_style,
)

FORMATS = ("pdf", "svg", "png")
PANEL_WIDTH = 3.3  # inches: a column of a two-column paper
MOST_COLUMNS = 3
_PAGE_DPI, _PAGE_SCALE = 200, 110  # of the pictures in an inline drawing; its CSS pixels an inch
_DROPPED = re.compile(
    r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->|\sclip-path=\"none\"", re.DOTALL
)
_REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
_ID = re.compile(r'\sid="([^"]*)"')
_COORDINATES = re.compile(r'(?<=\sd=")[^"]*|(?<=\sx=")[^"]*|(?<=\sy=")[^"]*')
_DECIMALS = re.compile(r"(\.\d\d)\d+")


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn as a whole: it holds pixels, whose places fit together. Panels of a ``Figure`` flow.

    Attributes:
        label: read aloud by a screen reader.
        draw: makes the canvas; called in the style of the paper.
    """

    label: str
    draw: Callable[[], Canvas]


def save_drawing(drawing: Drawing, path: Path) -> None:
    """Write a drawing into a file; the suffix of ``path`` is one of ``FORMATS``."""
    with paper_style(), quiet_about_glyphs(path.suffix == ".svg"):
        write_canvas(drawing.draw(), path)


def inline_drawing(drawing: Drawing, prefix: str) -> tuple[str, int]:
    """A drawing as an ``<svg>`` element, and the width in CSS pixels at which it can be read.

    Text and axes take their colours from the page; those of data stay, because part of the data are pixels.

    Args:
        drawing: what to draw.
        prefix: put before every id to make it unique on the page.
    """
    buffer = io.StringIO()
    with paper_style(), quiet_about_glyphs(True):
        canvas = drawing.draw()
        canvas.savefig(buffer, format="svg", metadata={"Date": None}, dpi=_PAGE_DPI)
        width = round(canvas.get_figwidth() * _PAGE_SCALE)
    text = buffer.getvalue()
    return _for_the_page(text[text.index("<svg") :], prefix, (INK, MUTED, RULE)), width


def save_figure(figure: Figure, path: Path) -> None:
    """Write all panels of a figure into one file; the suffix of ``path`` is one of ``FORMATS``."""
    columns = min(len(figure.panels), MOST_COLUMNS)
    rows = math.ceil(len(figure.panels) / columns)
    height = max(panel.height for panel in figure.panels)
    legend = 0.3 if figure.legend else 0.0
    with paper_style(), quiet_about_glyphs(path.suffix == ".svg"):
        canvas = Canvas(figsize=(columns * PANEL_WIDTH, rows * height + legend), layout="constrained")
        for panel, axes in zip(
            figure.panels, canvas.subplots(rows, columns, squeeze=False).flat, strict=False
        ):
            panel.draw(axes)
            axes.set_title(one_line(panel.title))
        for axes in canvas.axes[len(figure.panels) :]:
            axes.set_axis_off()
        if figure.legend:
            handles = [
                Line2D([], [], label=_legend(line.label), **line_style(line, markers=figure.has_markers))
                for line in figure.legend
            ]
            canvas.legend(
                handles=handles, loc="outside upper center", ncols=min(len(handles), 2 + 2 * columns)
            )
        write_canvas(canvas, path)


def write_canvas(canvas: Canvas, path: Path) -> None:
    """Write a figure into a file; the suffix of ``path`` is one of ``FORMATS``. Equal figures give equal files."""
    kind = path.suffix[1:]
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with replacing(path) as partial:
        canvas.savefig(partial, format=kind, metadata=metadata, dpi=300, facecolor=canvas.get_facecolor())


def _legend(name: str) -> str:
    """A name as matplotlib shows it: it leaves out those that begin with an underscore."""
    return "\u200b" * name.startswith("_") + one_line(name)


def inline_svg(panel: Panel, prefix: str) -> str:
    """A panel as an ``<svg>`` element that takes its colours from the page's CSS variables.

    Args:
        panel: what to draw.
        prefix: put before every id to make it unique on the page.
    """
    buffer = io.StringIO()
    with paper_style(), quiet_about_glyphs(True):
        canvas = Canvas(figsize=(PANEL_WIDTH, panel.height))
        axes = canvas.subplots(gridspec_kw={"left": 0.16, "right": 0.97, "bottom": 0.2, "top": 0.95})
        panel.draw(axes)
        _fit(axes)
        FigureCanvasSVG(canvas).print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    return _for_the_page(text[text.index("<svg") :], prefix)


def swatch(line: Line, *, markers: bool) -> str:
    """The sample of a line in the page's legend: SVG elements, 28 wide and 10 high."""
    color = f"var({CSS_VARIABLES[SERIES[line.slot]]})"
    if markers:
        path = MarkerStyle(MARKERS[line.slot])
        shape = path.get_path().transformed(path.get_transform() + Affine2D().scale(8, -8).translate(14, 5))
        outline = shape.to_polygons(closed_only=False)[0]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in outline)
        return f'<path d="M0 5H28" stroke="{color}" stroke-width="2"/><polygon points="{points}" fill="{color}"/>'
    dashes = DASHES[line.slot]
    pattern = (
        "" if dashes == "-" else f' stroke-dasharray="{" ".join(str(1.5 * length) for length in dashes[1])}"'
    )
    return f'<path d="M0 5H28" fill="none" stroke="{color}" stroke-width="2.5"{pattern}/>'


def _fit(axes: Axes) -> None:
    """Let the only axes of a figure, with their labels, fill it.

    The constrained layout would do the same in five times the time: it measures and draws twice.
    """
    canvas = axes.figure
    renderer = FigureCanvasAgg(canvas).get_renderer()
    pad_x, pad_y = (0.03 / inches for inches in canvas.get_size_inches())
    for _ in range(2):  # axes of another size may have other ticks, with longer numbers
        taken = axes.get_tightbbox(renderer).transformed(canvas.transFigure.inverted())
        here = axes.get_position()
        left, bottom = here.x0 + pad_x - taken.x0, here.y0 + pad_y - taken.y0
        right, top = here.x1 + 1 - pad_x - taken.x1, here.y1 + 1 - pad_y - taken.y1
        axes.set_position((left, bottom, right - left, top - bottom))


def _for_the_page(svg: str, prefix: str, colors: Sequence[str] = tuple(CSS_VARIABLES)) -> str:
    """Drop what the page does not need, make ids unique, cut to two decimals, replace colours by CSS variables."""
    svg = _DROPPED.sub("", svg)
    head, _, body = svg.partition(">")
    head = re.sub(r'\s(width|height|xmlns:xlink|xmlns|version)="[^"]*"', "", head)
    svg = f'{head} aria-hidden="true" focusable="false">{body}'
    used = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda match: f' id="{prefix}{match[1]}"' if match[1] in used else "", svg)
    svg = _REFERENCE.sub(lambda match: match[0].replace(match[1], prefix + match[1]), svg)
    svg = _COORDINATES.sub(lambda match: _DECIMALS.sub(r"\1", match[0]), svg)
    for color in colors:
        svg = re.sub(rf"(?<=[ :]){color}(?=[;\"])", f"var({CSS_VARIABLES[color]})", svg)
    return re.sub(r"\s*\n\s*", "\n", svg)


@contextmanager
def quiet_about_glyphs(quiet: bool) -> Iterator[None]:
    """Ignore warnings of letters that matplotlib's font lacks: SVG text uses the font of the page."""
    with warnings.catch_warnings():
        if quiet:
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def file_name(figure: Figure, dataset: str, datasets: Sequence[str], *, oracle: bool) -> str:
    """A figure's file name without suffix; it starts with the dataset if there are several."""
    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", dataset).strip("-.")
    place = f"{datasets.index(dataset) + 1}-{safe}_" if len(datasets) > 1 else ""
    return place + figure.name + "_oracle" * oracle
