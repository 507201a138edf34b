"""`naxcli stop`."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    app.command("stop")(stop)


def stop(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory.")],
    wait: Annotated[bool, typer.Option("--wait", help="Return when the search has ended.")] = False,
) -> None:
    """Ask a running search to finish its running trials, start no others, and exit; the same search command resumes it."""
    from naxcli.cli.output import note
    from naxcli.commands.stop import stop_run, wait_for_end
    from naxcli.records.directory import open_run

    directory = open_run(run)
    stop_run(directory)
    note(f"{directory.path}: no further trial starts; running trials finish first")
    if wait:
        wait_for_end(directory)
