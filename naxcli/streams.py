"""Standard streams that end nothing: not where nobody reads them any more, not where they are closed, and not by a character."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import unicodedata
from typing import Any, Literal

# A pipe without a reader, a terminal that is gone.
_GONE = frozenset({errno.EPIPE, errno.EIO})
# One column each where a layout depends on it.
_ASCII = {
    "≠": "!=", "±": "+-", "–": "-", "—": "-", "−": "-", "·": "-", "…": ".", "★": "*", "×": "x", "→": ">", "←": "<", "─": "-",
    "η": "eta", "≤": "<=", "≥": ">=", **dict.fromkeys("▏▎▍▌▋▊▉█", "#"), "�": "?",
}  # fmt: skip
_HANDLER = "naxcli-ascii"


def prepare_streams() -> None:
    """Make the standard streams of a command safe to print on; to be called once, before anything is printed or opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file to be opened, such as a database, would be printed into
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))
    codecs.register_error(_HANDLER, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)
    outlive_reader("stderr")


def outlive_reader(name: Literal["stdout", "stderr"]) -> None:
    """Let what is printed on a stream go nowhere once its reader has gone, for work that goes on without one."""
    stream = getattr(sys, name)
    if not isinstance(stream, io.TextIOWrapper):
        return
    with contextlib.suppress(OSError, ValueError):  # of a stream that is no file there is nothing to be lost
        stream.flush()
        lasting = io.TextIOWrapper(
            io.BufferedWriter(_Lasting(stream)), encoding=stream.encoding, errors=stream.errors,
            line_buffering=stream.line_buffering, write_through=stream.write_through,
        )  # fmt: skip
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


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding lacks, as handlers of `codecs.register_error` do."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_replacement, error.object[error.start : error.end])), error.end


def _replacement(character: str) -> str:
    known = _ASCII.get(character)
    if known is not None:
        return known
    plain = unicodedata.normalize("NFKD", character)
    return plain if plain.isascii() else character.encode("ascii", "backslashreplace").decode()
