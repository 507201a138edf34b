"""Progress of a study of networks."""

from __future__ import annotations

from typing import Any


class StudyProgress:
    """A progress bar on stderr, where stderr is a terminal; stdout is kept for JSON where that is asked for."""

    def __init__(self, what: str, *, is_quiet: bool, keeps_stdout: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from naxcli.cli.output import reserved_stdout, stderr_console

        console = stderr_console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_hidden = is_quiet or not console.is_terminal
        self._bar = Progress(*columns, console=console, transient=True, disable=is_hidden)
        self._task = self._bar.add_task(what, total=None)
        self._is_quiet = is_quiet
        self._stdout = reserved_stdout(keeps_stdout)

    def __enter__(self) -> StudyProgress:
        self._stdout.__enter__()
        self._bar.start()
        return self

    def __exit__(self, *details: Any) -> None:
        self._bar.stop()
        self._stdout.__exit__(*details)

    def update(self, done: int, total: int) -> None:
        self._bar.update(self._task, completed=done, total=total)

    def note(self, text: str) -> None:
        from naxcli.errors import printable

        if not self._is_quiet:
            self._bar.console.print(printable(text), markup=False, highlight=False)
