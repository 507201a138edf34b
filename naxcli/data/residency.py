"""Whether a data source's images fit into memory, or are read anew whenever they are trained on. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from naxcli.data.sources import bytes_when_read

# While a process reads a source it holds the decoded images, their one array, and its two parts.
_COPIES = 3
_CGROUP = Path("/sys/fs/cgroup")


def is_lazy(name: str, root: str | Path, *, image_size: int | None, residence: str, num_processes: int) -> bool:
    """Return whether images are to be read when they are asked for rather than kept in memory.

    Args:
        name: of the data source.
        image_size: side that its images are resized to; None as in `describe_dataset`.
        residence: `always` keeps them, `never` does not, `auto` does where they fit.
        num_processes: that would each keep them on this machine.
    """
    if residence != "auto":
        return residence == "never"
    available = available_memory_bytes()
    needed = bytes_when_read(name, root, image_size=image_size) * _COPIES * num_processes
    return available is not None and needed > available


def notice_of(name: str, *, residence: str) -> str:
    """Return what the user is told of lazy images."""
    reason = "as data_resident asks" if residence == "never" else "as it does not fit into memory"
    return (
        f"{name} is read from its files by timm's loader, {reason}; statistics are those of a sample, and unreadable "
        "images show when they are met"
    )


def available_memory_bytes() -> int | None:
    """Return the memory that new processes can have on this machine or in this container, None where nobody tells."""
    found = [value for value in (_system_bytes(), _container_bytes(_CGROUP)) if value is not None]
    return min(found, default=None)


def _system_bytes() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return None


def _container_bytes(folder: Path) -> int | None:
    """Return what is left of the limit of this control group (version 2), None without a limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or the word "max"
        return None
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, limit - used + cached)
