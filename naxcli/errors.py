"""The one error type that users see: what happened, why, and a hint, with an exit code."""

from __future__ import annotations

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
