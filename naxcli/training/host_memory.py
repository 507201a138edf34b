"""Host memory of a training: kept between its steps, returned after it. Does nothing where the C library is not glibc.

glibc gives every large block back to the system when it is freed, and each step of a training then pays for having its
pages mapped and cleared anew.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# Parameters of mallopt(3), and their usual values.
_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD = -1, 128 * 1024
_M_MMAP_MAX, _USUAL_MMAP_MAX = -4, 65536
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let the process keep what it frees, until `return_freed_memory`."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _LARGEST)


def return_freed_memory() -> None:
    """Give the system back what the process has freed."""
    malloc_trim = _function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def free_as_usual() -> None:
    """Undo `keep_freed_memory`."""
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, _USUAL_MMAP_MAX)
        mallopt(_M_TRIM_THRESHOLD, _USUAL_TRIM_THRESHOLD)
    return_freed_memory()


def _function(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
