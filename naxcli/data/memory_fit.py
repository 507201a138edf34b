"""Whether the images of a data source fit into memory, or are streamed from their files. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from naxcli.data.sources import bytes_when_read

# While a process reads a source it holds the decoded images, one array of them all, and its two splits.
_COPIES = 3
_CGROUP = Path("/sys/fs/cgroup")


def needs_streaming(name: str, root: str | Path, *, image_size: int | None, in_memory: str, num_processes: int) -> bool:
    """Return whether images are to be streamed from their files rather than kept in memory.

    Args:
        name: Name of the data source.
        root: Folder that holds or receives data sets.
        image_size: Side in pixels that images are resized to; None keeps the source's own.
        in_memory: `always` keeps images in memory, `never` streams them, `auto` streams them where they do not fit.
        num_processes: Number of processes on this machine that would each keep the images.
    """
    if in_memory != "auto":
        return in_memory == "never"
    available = available_memory_bytes()
    needed = bytes_when_read(name, root, image_size=image_size) * _COPIES * num_processes
    return available is not None and needed > available


def was_streamed(recorded: Mapping[str, Any] | None) -> bool:
    """Return whether a run streamed its images, from what `environment.json` holds of its data."""
    recorded = recorded or {}
    return bool(recorded.get("is_streaming", recorded.get("is_lazy", False)))  # the second is of earlier versions


def streaming_notice(name: str, *, in_memory: str) -> str:
    """Return what the user is told where images are streamed."""
    reason = "as data_in_memory=never asks" if in_memory == "never" else "as it does not fit into memory"
    return (
        f"{name} is streamed from its files by timm's loader, {reason}; statistics are those of a sample, and "
        "unreadable images show when they are met"
    )


def available_memory_bytes() -> int | None:
    """Return the memory that new processes can have on this machine or in this container, None where it is not known."""
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
    """Return the memory left below the limit of this control group (version 2), None where there is no limit."""
    try:
        limit = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such file, or the word "max"
        return None
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(0, limit - used + cached)
