"""Loaded by Dask in every local worker process before its first trial."""

from __future__ import annotations

import signal
from typing import Any


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C to the search: a terminal sends it to the whole process group, and the parent decides what ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
