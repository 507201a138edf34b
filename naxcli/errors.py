"""The one error type that users see: what happened, why, and a hint, with an exit code; and how text from elsewhere is shown."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PLAN_INFEASIBLE = 3
    STOPPED = 4
    INTERRUPTED = 130


class NaxcliError(Exception):
    """A mistake or a condition the user can act on; anything else keeps its traceback.

    Args:
        what: what went wrong, one sentence without a full stop.
        why: the reason, if known.
        hint: what to do about it, preferably a command.
        exit_code: exit code of the command that meets it.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "", exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"why: {self.why}")
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return text that a terminal shows and does not obey: control and direction characters become `\u001b`, as JSON and TOML write them.

    Everything that a run, a space, a data set or a scheduler names goes through here on its way to a terminal: a stranger may have
    written it.

    Args:
        text: from anywhere.
        keep: control characters that stay, such as the line breaks of a text of several lines.
    """
    return text if text.isprintable() else "".join(_shown(character, keep) for character in text)


def _shown(character: str, keep: str) -> str:
    if character.isprintable() or character in keep or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return the question whether the most similar of the known names was meant, or another hint where none is similar."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else otherwise
