"""Standard streams whose reader may go away while the work goes on."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import Any, Literal

# A pipe without a reader, a terminal that is gone.
_GONE = frozenset({errno.EPIPE, errno.EIO})


def outlive_reader(name: Literal["stdout", "stderr"]) -> None:
    """Let what is printed on a stream go nowhere once its reader has gone, for work that goes on without one."""
    stream = getattr(sys, name)
    if not isinstance(stream, io.TextIOWrapper):
        return
    with contextlib.suppress(OSError, ValueError):  # of a stream that is no file there is nothing to be lost
        stream.flush()
        lasting = io.TextIOWrapper(
            io.BufferedWriter(_Lasting(stream)),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, lasting)


class _Lasting(io.FileIO):
    """A file that is written to nowhere from the moment on when nobody reads it any more."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self._stream = stream  # forgotten, it would close the number

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for whoever writes to its number, too
            os.close(nowhere)
            return memoryview(data).nbytes
