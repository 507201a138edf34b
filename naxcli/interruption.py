"""Interruption: Ctrl-C and SIGTERM as a request to stop at the next safe point, so that no write is cut in two."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from naxcli.errors import ExitCode


class Interruption:
    """Notes SIGINT and SIGTERM while its block runs; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._signal is not None

    @property
    def exit_code(self) -> ExitCode:
        """Of a command that stopped because of it: SIGTERM, as a cluster sends it, differs from Ctrl-C."""
        return ExitCode.STOPPED if self._signal == signal.SIGTERM else ExitCode.INTERRUPTED

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = number
