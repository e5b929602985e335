"""Faces with their heat maps and verdicts: two pictures a face, three faces a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Canvas

from roga_domainbed.report.figures.drawing import Drawing
from roga_domainbed.report.figures.heat_maps import draw_scale, how_to_read, overlaid, wrapped
from roga_domainbed.report.figures.sheet import GAP, LINE, SIDE, STEP, Sheet, short
from roga_domainbed.report.figures.style import MUTED

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.verdicts import Verdicts

_A_ROW = 3  # faces
_PAIR = 2.15  # columns that a face takes, with the gap behind it
_LEFT = 0.1
_BAR = 0.45  # inches: the scale of colours with its labels
_LONGEST = 32  # letters of a title


def verdicts_drawing(found: Verdicts, method: str) -> Drawing:
    """``found`` as a figure; ``method`` is the title of its heat maps."""
    return Drawing(f"{method} of {len(found.faces)} faces, with verdicts", lambda: _canvas(found, method))


def _canvas(found: Verdicts, method: str) -> Canvas:
    has_frames = any(face.frame for face in found.faces)
    row = SIDE + (2 + has_frames) * LINE + 3 * GAP
    n_columns = min(len(found.faces), _A_ROW)
    width = max(_LEFT + n_columns * _PAIR * STEP, 3.3)
    notes = [f"Below each face: probability of fake and verdict. {how_to_read(method)}"]
    if len(found.faces) < found.total:
        notes.insert(0, f"The first {len(found.faces)} of {found.total} faces.")
    foot = wrapped(notes, width)
    bottom = GAP + -(-len(found.faces) // _A_ROW) * row
    sheet = Sheet(width, bottom + _BAR + len(foot) * LINE, _LEFT)
    for number, face in enumerate(found.faces):
        column, top = number % _A_ROW * _PAIR, GAP + number // _A_ROW * row
        middle = sheet.middle(column + 0.5)
        sheet.text(middle, top, short(face.title, _LONGEST), ha="center", color=MUTED)
        top += LINE + GAP
        sheet.picture(face.image, column, top)
        sheet.picture(overlaid(face.image, face.heat), column + 1, top)
        sheet.text(middle, top + SIDE + GAP / 2, face.verdict, ha="center", fontweight="bold")
        sheet.text(middle, top + SIDE + GAP / 2 + LINE, face.frame, ha="center", color=MUTED, fontsize=6.5)
    draw_scale(sheet.axes(_LEFT, bottom + 0.08, 2 * STEP - GAP, 0.09))
    sheet.notes(foot, bottom + _BAR)
    return sheet.canvas
