"""What result tables can be turned into: renderers by name.

To add one: a function ``(tables, *, compat=None) -> str``, or bytes for what is no text, in a file here and a row
below; from another package, ``RENDERERS.add(...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from roga_domainbed.catalog.registry import Registry

if TYPE_CHECKING:
    from roga_domainbed.report.tables import Tables


class Renderer(Protocol):
    """Turns tables into a document."""

    def __call__(self, tables: Tables, *, compat: str | None = None) -> str | bytes:
        """The document; ``compat="upstream"``: as DomainBed would print it, where that is known."""
        ...


@dataclass(frozen=True)
class RendererInfo:
    """A renderer: ``target`` is ``"module:function"``, a ``Renderer``; ``suffix`` that of the file it makes."""

    name: str
    target: str
    summary: str
    suffix: str = ".txt"


RENDERERS: Registry[RendererInfo] = Registry("format")
RENDERERS.add(RendererInfo("text", "roga_domainbed.report.text:render_text", "DomainBed's text tables"))
RENDERERS.add(
    RendererInfo(
        "latex", "roga_domainbed.report.latex:render_latex", "DomainBed's LaTeX document", suffix=".tex"
    )
)
for _name, _module, _summary, _suffix in (
    ("markdown", "markdown", "Markdown tables", ".md"),
    ("csv", "cells", "a line a cell", ".csv"),
    ("json", "cells", "an object a cell, the missing and the unfinished runs", ".json"),
    ("parquet", "cells", "a row a cell", ".parquet"),
):
    RENDERERS.add(
        RendererInfo(_name, f"roga_domainbed.report.{_module}:render_{_name}", _summary, suffix=_suffix)
    )
