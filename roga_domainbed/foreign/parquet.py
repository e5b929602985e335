"""Parquet from elsewhere: how much memory its directory says that it takes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from roga_domainbed.foreign.malformed import Malformed

# What this package writes takes 5 to 16 bytes a row, and unpacks to 10 times its size.
_ROWS_A_BYTE, _MOST_UNPACKED, _EVER_UNPACKED = 4, 100, 64 * 2**20


def check_unpacked(metadata: Any, size: int, columns: Collection[str]) -> None:
    """Refuse a file of which a few bytes unpack to gigabytes.

    Args:
        metadata: of pyarrow's ``ParquetFile``.
        size: of the file, in bytes.
        columns: those that will be read.

    Raises:
        Malformed: it has many more rows, or unpacks to many more bytes, than its size.
    """
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    chunks = (group.column(index) for group in groups for index in range(metadata.num_columns))
    unpacked = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in columns)
    if metadata.num_rows > _ROWS_A_BYTE * size or unpacked > _MOST_UNPACKED * size + _EVER_UNPACKED:
        raise Malformed(f"its {size:,} bytes unpack to {metadata.num_rows:,} rows and {unpacked:,} bytes")
