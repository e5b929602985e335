"""The templates of pages: what is in a name cannot be markup, and never breaks a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from roga_domainbed.foreign import printable

if TYPE_CHECKING:
    from jinja2 import Template

#: Characters that are not allowed in HTML or SVG; names may contain them.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def template(name: str) -> Template:
    """A file of ``templates``; everything that is put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("roga_domainbed.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _safe(value) if type(value) is str else value,
    )
    return environment.get_template(name)


def without_control(text: str) -> str:
    """``text`` without what HTML forbids."""
    return _CONTROL.sub("\ufffd", text)


def _safe(text: str) -> str:
    """``text`` without what HTML forbids, and with what turns the direction of writing written out."""
    return printable(without_control(text))
