"""Standard streams that end nothing: not where nobody reads them any more, not where they are closed, and not by a character."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

from naxcli.workers.streams import outlive_reader

# One column each where a layout depends on it.
_ASCII = {
    "≠": "!=",
    "±": "+-",
    "–": "-",
    "—": "-",
    "−": "-",
    "·": "-",
    "…": ".",
    "★": "*",
    "×": "x",
    "→": ">",
    "←": "<",
    "─": "-",
    "η": "eta",
    "≤": "<=",
    "≥": ">=",
    **dict.fromkeys("▏▎▍▌▋▊▉█", "#"),
    "�": "?",
}
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
