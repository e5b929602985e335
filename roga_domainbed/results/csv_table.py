"""Rows as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from roga_domainbed.foreign import csv_cell


def csv_table(
    rows: Iterable[Mapping[str, Any]], names: Sequence[str] | None = None, without: Collection[str] = ()
) -> str:
    """A header line, then a line for each row; an empty field for None, and for what a row lacks.

    Args:
        rows: name → value.
        names: of the columns; None for those of all rows, in the order in which they come.
        without: names in rows that get no column.
    """
    rows = [{name: csv_cell(value) for name, value in row.items() if name not in without} for row in rows]
    names = names or list(dict.fromkeys(name for row in rows for name in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
