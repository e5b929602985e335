"""What result tables can be turned into: renderers by name.

To add one: a function ``(tables, *, compat=None) -> str`` in a file here and a row below; from another package,
``RENDERERS.add(...)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from roga_domainbed.registry import Registry
from roga_domainbed.report.tables import Tables


class Renderer(Protocol):
    """Turns tables into a document."""

    def __call__(self, tables: Tables, *, compat: str | None = None) -> str:
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
