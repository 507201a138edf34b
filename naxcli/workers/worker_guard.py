"""Ends what the trials of a worker started, once the worker is gone: a process beside it, of the standard library only.

    python -I -S worker_guard.py WORKER NANNY SESSION MARK [SCRATCH]

Nothing within the worker could do that: it may be killed at any instant, and its children then belong to another process.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# In the environment of a worker and of all that descends from it.
MARK_VARIABLE = "_NAXCLI_WORKER"
# In the environment of a worker, which hands it on to its guard alone: the folder of temporary files of its search.
SCRATCH_VARIABLE = "_NAXCLI_SCRATCH"
SCRATCH_PREFIX = "naxcli-"
INTERVAL_SECONDS = 0.5
PROCESSES = Path("/proc")


def is_supported() -> bool:
    """Return whether this system shows its processes as files."""
    return (PROCESSES / "self" / "stat").exists()


def main(worker: int, nanny: int, session: int, mark: str, scratch: str = "") -> None:
    """Wait until the worker is gone, or its nanny is (0: it has none), then kill the worker and its descendants.

    The folder of a search that was killed is removed: a search that ends by itself has removed its own.
    """
    while (found := parent_and_session(worker)) is not None and os.getppid() == worker and nanny in (0, found[0]):
        time.sleep(INTERVAL_SECONDS)
    killed: set[int] = set()
    # Until nothing new is found: between a look and a kill a process may have started another.
    while new := set(descendants(session, mark)) - killed:
        for pid in new:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        killed |= new
        time.sleep(0.02)
    if Path(scratch).name.startswith(SCRATCH_PREFIX) and parent_and_session(nanny) is None:
        shutil.rmtree(scratch, ignore_errors=True)


def descendants(session: int, mark: str) -> Iterator[int]:
    """Yield the processes of a session (0: of none) and those whose environment bears the mark."""
    variable = f"{MARK_VARIABLE}={mark}".encode()
    for folder in PROCESSES.iterdir():
        if not folder.name.isdigit() or (found := parent_and_session(int(folder.name))) is None:
            continue
        if session and found[1] == session:
            yield int(folder.name)
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:  # another user's, or gone
            continue
        if variable in environment.split(b"\0"):
            yield int(folder.name)


def parent_and_session(pid: int) -> tuple[int, int] | None:
    """Return the parent and the session of a process, None where it has ended."""
    try:
        # The name, in brackets, may hold anything.
        state, parent, _, session = (PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else (int(parent), int(session))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
