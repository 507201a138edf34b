"""The processes of a local cluster: Dask's scheduler and worker without their web servers, and a worker's first steps."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import distributed
from distributed import Scheduler, Worker
from distributed.client import AllExit
from distributed.comm import CommClosedError

from naxcli.workers import worker_guard
from naxcli.workers.streams import outlive_reader

AUTOGROUP = Path("/proc/self/autogroup")


class LocalScheduler(Scheduler):  # type: ignore[misc]
    """A scheduler that opens no port beside the one with TLS."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start nothing: Dask has no setting that leaves its web server out."""


class LocalWorker(Worker):  # type: ignore[misc]
    """A worker that opens no port beside the one with TLS."""

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start nothing: Dask has no setting that leaves its web server out."""


def dask_setup(_worker: Any) -> None:
    """Called by Dask in every local worker process before its first trial."""
    # Ctrl-C and a lost terminal are the search's: they reach the whole process group, and the parent decides what ends.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    outlive_reader("stdout")  # a trial that prints must not fail where nobody reads it
    outlive_reader("stderr")
    silence_dask()
    guard_children(has_nanny=True)


def start_resource_tracker() -> None:
    """Start the process by which multiprocessing cleans up, so that it outlives a lost terminal as it outlives Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, before)


def silence_dask() -> None:
    """Keep Dask's log, which tells of every connection that ends, from the user: what matters of it comes as an error of ours."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(f"{distributed.__name__}.")]
    for name in (distributed.__name__, *names):  # the import has set levels of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # What a task of Dask's raised that nobody waits for any more.
    for name in ("asyncio", "tornado.application"):
        logging.getLogger(name).addFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    """Return whether a record is of anything but a connection that was closed, or a result that went with its worker."""
    return not (record.exc_info and isinstance(record.exc_info[1], (CommClosedError, AllExit)))


def _keep_niceness() -> None:
    """Give this process's new session the priority of the process: where Linux shares the processor out by session, it starts at 0."""
    if os.nice(0) and AUTOGROUP.exists():
        with contextlib.suppress(
            OSError
        ):  # not allowed, or this often; what `nice` says within the session still holds
            AUTOGROUP.write_text(str(os.nice(0)), encoding="ascii")


@functools.cache
def guard_children(*, has_nanny: bool) -> None:
    """See to it that processes which trials start in this worker end with it, even where it is killed.

    Its descendants are known by the session that it opens, and by a mark in their environment where they leave the session.
    """
    if not worker_guard.is_supported():
        return
    worker = os.getpid()
    try:
        os.setsid()
        _keep_niceness()
        session = worker
    except PermissionError:  # started by hand, as the leader of a group that is not all its own
        session = 0
    # A Dask worker that a trial starts has a scratch folder of its own.
    scratch = os.environ.pop(worker_guard.SCRATCH_VARIABLE, "")
    environment = dict(os.environ)
    os.environ[worker_guard.MARK_VARIABLE] = mark = f"{worker}-{secrets.token_hex(8)}"
    nanny = os.getppid() if has_nanny else 0
    subprocess.Popen(
        [sys.executable, "-I", "-S", Path(worker_guard.__file__), str(worker), str(nanny), str(session), mark, scratch],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment,
        start_new_session=True,
    )
