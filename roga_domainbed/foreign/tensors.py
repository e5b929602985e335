"""Weights from elsewhere: files of ``torch.save``, read without running anything in them.

torch stores its archives uncompressed, with a checksum of every entry, which it does not read itself. So the directory
of an archive tells beforehand how much memory it takes, and a changed byte is found.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from roga_domainbed.errors import first_line, is_out_of_memory
from roga_domainbed.foreign.files import open_regular
from roga_domainbed.foreign.malformed import Malformed

_ARCHIVE = b"PK"


def load_tensors(
    file: str | os.PathLike | BinaryIO, place: str | Callable = "cpu", *, old_format: bool = False
) -> Any:
    """What ``torch.save`` wrote: tensors and plain values, every checksum compared.

    Args:
        file: its path, or the file itself.
        place: torch's ``map_location``.
        old_format: whether a file of torch before 1.6, which has no checksums, is read too.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        Malformed: it is damaged, holds more than weights, or takes more memory than its size.
        Exception: there is not enough memory for it; see ``errors.is_out_of_memory``.
    """
    if isinstance(file, (str, os.PathLike)):
        with open_regular(file) as opened:
            return load_tensors(opened, place, old_format=old_format)
    file.seek(0)
    if file.read(len(_ARCHIVE)) == _ARCHIVE:
        _check_archive(file)
    elif not old_format:
        raise Malformed("it is damaged or no file of torch.save")
    file.seek(0)
    return _load(file, place)


def _check_archive(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise Malformed("its entries are compressed, which torch does not write")
            if sum(entry.file_size for entry in entries) > size:
                raise Malformed(f"its entries are larger than the file, which has {size:,} bytes")
            if len({entry.filename for entry in entries}) < len(entries):
                raise Malformed("it is damaged: an entry comes twice")
            changed = archive.testzip()
    except Malformed:
        raise
    except Exception as error:  # a damaged archive fails in any of zipfile's ways
        if is_out_of_memory(error):
            raise
        raise Malformed(f"it is damaged: {error or type(error).__name__}") from None
    if changed is not None:
        raise Malformed(f"it is damaged: the entry {changed} does not have its checksum")


def _load(file: BinaryIO, place: str | Callable) -> Any:
    import torch

    try:
        with _numpy_scalars_allowed():
            return torch.load(file, map_location=place, weights_only=True)
    except pickle.UnpicklingError as error:
        raise Malformed(f"it holds more than weights ({_reason(error)})") from None
    except Exception as error:  # zip, pickle and torch each have their own kinds for damaged files
        if is_out_of_memory(error):
            raise
        raise Malformed(f"it is damaged ({_reason(error)})") from None


@contextlib.contextmanager
def _numpy_scalars_allowed() -> Iterator[None]:
    """Inside, ``weights_only`` accepts numpy's numbers, which upstream leaves among its hyper-parameters."""
    import numpy as np
    import torch

    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:  # torch before 2.5
        yield
        return
    numbers = [np.dtype, np.float64(0).__reduce__()[0]]
    numbers += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    with safe_globals(numbers):
        yield


def _reason(error: Exception) -> str:
    line = first_line(error) or type(error).__name__
    return line if len(line) <= 160 else line[:159] + "…"
