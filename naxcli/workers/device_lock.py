"""DeviceLock: trainings use a GPU that workers share together; a measurement has it for itself.

A readers-writer lock between processes, on two files: who enters takes the door first, so that a measurement does not wait for ever
while trainings come and go.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_VARIABLE = "_NAXCLI_DEVICE_LOCK"
"""Environment variable by which the pool tells a worker where the lock of its GPU is."""


class DeviceLock:
    """The lock of one GPU, for one process.

    Args:
        path: Where the lock's files are, the same for all processes on the GPU; None where a process has it for itself.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def of_worker(cls) -> DeviceLock:
        """Return the lock of the GPU that this worker process shares, or one that nobody else has."""
        path = os.environ.get(LOCK_VARIABLE)
        return cls(Path(path) if path else None)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Use the device alone, as soon as each training there has ended its step."""
        if self._path is None:
            yield
            return
        with _opened(self._path, "door") as door, _opened(self._path, "room") as room:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX)
            yield

    @contextmanager
    def together(self, synchronise: Callable[[], None]) -> Iterator[Callable[[], None]]:
        """Use the device together with other trainings.

        Args:
            synchronise: Waits until the device has done what this process gave it.

        Yields:
            A function to be called between two steps, which lets pass whoever waits to have the device alone.
        """
        if self._path is None:
            yield lambda: None
            return
        with _opened(self._path, "door") as door, _opened(self._path, "room") as room:

            def enter() -> None:
                fcntl.flock(door, fcntl.LOCK_SH)
                fcntl.flock(room, fcntl.LOCK_SH)
                fcntl.flock(door, fcntl.LOCK_UN)

            def give_way() -> None:
                try:
                    fcntl.flock(door, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    synchronise()
                    fcntl.flock(room, fcntl.LOCK_UN)
                    enter()
                else:
                    fcntl.flock(door, fcntl.LOCK_UN)

            enter()
            yield give_way


@contextmanager
def _opened(path: Path, name: str) -> Iterator[int]:
    """Yield a file of the lock; closing it gives up what is held of it."""
    descriptor = os.open(path.with_name(f"{path.name}-{name}"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
