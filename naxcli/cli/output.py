"""Where commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from naxcli.errors import printable

if TYPE_CHECKING:
    from naxcli.cli.console import SafeConsole
    from naxcli.errors import NaxcliError


def stdout_console() -> SafeConsole:
    from naxcli.cli.console import SafeConsole

    return SafeConsole()


def stderr_console() -> SafeConsole:
    from naxcli.cli.console import SafeConsole

    return SafeConsole(stderr=True)


@contextlib.contextmanager
def reserved_stdout(is_reserved: bool = True) -> Iterator[None]:
    """Send what anything else prints, in this process or its workers, to stderr: stdout is for one JSON value that follows."""
    if not is_reserved:
        yield
        return
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def print_json(value: Any) -> None:
    """Print one JSON value on stdout; NaN is a bug and not printed as such."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def print_text(text: str) -> None:
    """Print a text of several lines, such as a file, on stdout."""
    typer.echo(printable(text, keep="\n\t"), nl=False)


def print_error(error: NaxcliError) -> None:
    """Print what, why and a hint on stderr; only the reason has several lines, so that no name can pass for a hint."""
    from rich.text import Text

    text = Text.assemble(("error: ", "bold red"), printable(error.what))
    if error.why:
        text.append("\n  why: ", style="bold").append(printable(error.why, keep="\n\t").replace("\n", "\n    "))
    if error.hint:
        text.append("\n  hint: ", style="bold").append(printable(error.hint))
    stderr_console().print(text, soft_wrap=True)


def print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of what is no NaxcliError, on stderr."""
    lines = "".join(traceback.format_exception(kind, error, trace))
    print(printable(lines, keep="\n\t"), end="", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)
