"""Interruption: Ctrl-C, SIGTERM and SIGHUP as a request to stop at the next safe point, so that no write is cut in two."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from naxcli.errors import ExitCode


class Interruption:
    """Notes SIGINT, SIGTERM and SIGHUP while its block runs; Ctrl-C after one of them stops at once."""

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it, to outlive the terminal
            numbers.append(signal.SIGHUP)
        self._previous = {number: signal.signal(number, self._note) for number in numbers}
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
        """Of a command that stopped because of it: a signal from a cluster or a lost terminal differs from Ctrl-C."""
        return ExitCode.INTERRUPTED if self._signal in (None, signal.SIGINT) else ExitCode.STOPPED

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.is_set:
            raise KeyboardInterrupt
        self._signal = number
