"""What processes of a search are told of signals; loaded by Dask in every local worker process before its first trial."""

from __future__ import annotations

import signal
import threading
from multiprocessing import resource_tracker
from typing import Any

from naxcli.streams import outlive_reader


def dask_setup(_worker: Any) -> None:
    """Leave Ctrl-C and a lost terminal to the search: they reach the whole process group, and the parent decides what ends."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    outlive_reader("stdout")  # a trial that prints must not fail where nobody reads it
    outlive_reader("stderr")


def start_resource_tracker() -> None:
    """Start the process by which multiprocessing cleans up, so that it outlives a lost terminal as it outlives Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)
