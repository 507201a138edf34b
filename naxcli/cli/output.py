"""Where commands print: data on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from naxcli.errors import NaxcliError


def stdout_console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def stderr_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


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


def print_error(error: NaxcliError) -> None:
    """Print what, why and a hint on stderr."""
    from rich.text import Text

    console = stderr_console()
    text = Text.assemble(("error: ", "bold red"), error.what)
    for label, content in (("why", error.why), ("hint", error.hint)):
        if content:
            text.append(f"\n  {label}: ", style="bold")
            text.append(content.replace("\n", "\n    "))
    console.print(text, soft_wrap=True)


def note(text: str) -> None:
    """Print a plain line on stderr."""
    print(text, file=sys.stderr, flush=True)
