"""How a sweep is told to stop, wherever it runs: a file in its folder that every launcher and job looks at.

Whoever starts remembers the file's date; another date means stop. So no two clocks are compared.
"""

from __future__ import annotations

import os
from pathlib import Path

CANCEL_FILE = "cancel"


def cancel(folder: str | os.PathLike) -> None:
    """Tell everything that works in the sweep's ``folder`` now to stop.

    Raises:
        OSError: the file cannot be written.
    """
    Path(folder, CANCEL_FILE).write_text("Jobs that ran when this file was written were told to stop.\n")


def stamp(folder: str | os.PathLike) -> int:
    """What tells one cancellation from the next; 0 where there was none."""
    try:
        return os.stat(os.path.join(folder, CANCEL_FILE)).st_mtime_ns
    except OSError:
        return 0
