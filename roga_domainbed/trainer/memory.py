"""Keep freed buffers in the process instead of giving them back to the kernel."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # names of glibc's malloc.h


def keep_freed_memory() -> None:
    """Tell glibc to reuse large buffers; do nothing on other C libraries.

    By default a buffer of some megabytes goes back to the kernel when it is freed and comes anew, page by page
    and zeroed, at the next step: short SynthFake runs on one core take 1.3 times as long.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)  # the most that glibc accepts
        # A reader's buffers are freed where they were made: with a heap for each reader, all keep what one would do.
        libc.mallopt(_M_ARENA_MAX, 1)
