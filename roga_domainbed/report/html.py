"""The templates of pages: what is in a name cannot be markup, and never breaks a page."""

from __future__ import annotations

import re
from collections.abc import Callable

from roga_domainbed import __version__
from roga_domainbed.foreign import printable
from roga_domainbed.report.figures.drawing import Drawing, inline_drawing, inline_svg, swatch

#: Characters that are not allowed in HTML or SVG; names may contain them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def render(name: str, tick: Callable[[], object] = lambda: None, **values: object) -> str:
    """A page of ``templates``: its figures are drawn, and everything that is put into it is escaped.

    Args:
        name: of the template.
        tick: called after each panel that was drawn.
        values: what the template shows.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    drawn = 0

    def prefix() -> str:
        """Of the ids in the next drawing."""
        nonlocal drawn
        drawn += 1
        return f"f{drawn}-"

    def svg(panel: object) -> Markup:
        text = Markup(without_control(inline_svg(panel, prefix())))
        tick()
        return text

    def drawing(part: Drawing) -> tuple[Markup, int]:
        text, width = inline_drawing(part, prefix())
        return Markup(without_control(text)), width

    environment = Environment(
        loader=PackageLoader("roga_domainbed.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _safe(value) if type(value) is str else value,
    )
    return environment.get_template(name).render(
        version=__version__,
        svg=svg,
        drawing=drawing,
        swatch=lambda line, markers: Markup(swatch(line, markers=markers)),
        **values,
    )


def without_control(text: str) -> str:
    """``text`` without what HTML forbids."""
    return _CONTROL.sub("\ufffd", text)


def _safe(text: str) -> str:
    """``text`` without what HTML forbids, and with what turns the direction of writing written out."""
    return printable(without_control(text))
