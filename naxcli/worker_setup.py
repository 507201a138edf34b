"""Loaded by Dask in every local worker process before its first trial."""

from __future__ import annotations

import signal
from typing import Any

from naxcli.streams import outlive_reader


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C and a lost terminal to the search: they reach the whole process group, and the parent decides what ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    outlive_reader("stdout")  # a trial that prints must not fail where nobody reads it
    outlive_reader("stderr")
