"""Stopping a search that another process runs."""

from __future__ import annotations

import time

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import guard_disk

SECONDS_BETWEEN_LOOKS = 0.2


def stop_run(run: RunDirectory) -> None:
    """Ask a running search to finish its running trials and start no others; the same search again resumes it.

    Args:
        run: Directory of the search.

    Raises:
        NaxcliError: If no process is running it, or its directory cannot be written.
    """
    if not run.is_locked():
        raise NaxcliError(f"{run.path} is not running", exit_code=ExitCode.FAILED)
    with guard_disk(run.path):
        run.stop_file.touch()


def wait_for_end(run: RunDirectory) -> None:
    """Return when no process runs a search any more.

    Args:
        run: Directory of the search.
    """
    while run.is_locked():
        time.sleep(SECONDS_BETWEEN_LOOKS)
