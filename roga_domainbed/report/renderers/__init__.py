"""The formats of result tables: renderers by name.

To add one: a function ``(tables, *, compat=None) -> str | bytes`` in a file here, and a row in the table below. From
another package: ``RENDERERS.add(...)``.
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
        """The document; with ``compat="upstream"`` as DomainBed would print it, where DomainBed has the format."""
        ...


@dataclass(frozen=True)
class RendererInfo:
    """A renderer: ``target`` is its ``"module:function"``, ``suffix`` that of the file it makes."""

    name: str
    target: str
    summary: str
    suffix: str = ".txt"


RENDERERS: Registry[RendererInfo] = Registry("format")
for _name, _module, _summary, _suffix in (
    ("text", "text", "DomainBed's text tables", ".txt"),
    ("latex", "latex", "DomainBed's LaTeX document", ".tex"),
    ("markdown", "markdown", "Markdown tables", ".md"),
    ("csv", "export", "one line for each cell", ".csv"),
    ("json", "export", "one object for each cell, the missing and the unfinished runs", ".json"),
    ("parquet", "export", "one row for each cell", ".parquet"),
):
    _target = f"roga_domainbed.report.renderers.{_module}:render_{_name}"
    RENDERERS.add(RendererInfo(_name, _target, _summary, _suffix))
