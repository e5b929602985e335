"""A table as text: columns as wide as their widest cell."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], n_left: int = 1, gap: str = "  ") -> str:
    """The rows, each on a line that ends in a newline.

    Args:
        rows: cells, the same number in each; the first row may be a header.
        n_left: the first columns, which are aligned to the left; the others to the right.
        gap: between columns.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        gap.join(
            cell.ljust(width) if column < n_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )
