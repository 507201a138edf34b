"""The command line: parse, call one importable function, print. Nothing here imports torch."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from naxcli import __version__
from naxcli.cli import (
    bench,
    compare,
    confirm,
    data,
    export,
    plan,
    report,
    search,
    space,
    status,
    stop,
    study,
    study_rank,
    train,
)
from naxcli.cli.output import print_bug, print_error
from naxcli.cli.streams import prepare_streams
from naxcli.errors import ExitCode, NaxcliError

SHOWN_OF_PATH = 80  # characters of one that is too long


class ErrorBoundary(TyperGroup):
    """The one place where errors become messages and exit codes; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NaxcliError as error:
            if os.environ.get("NAXCLI_DEBUG"):
                print_bug(type(error), error, error.__traceback__)
            print_error(error)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(ExitCode.DONE) from None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            print_error(
                NaxcliError(
                    f"the path {str(error.filename)[:SHOWN_OF_PATH]}… is too long",
                    why="the operating system takes names of 255 bytes and paths of 4096 bytes, as a rule",
                )
            )
            raise typer.Exit(ExitCode.USAGE) from None


app = typer.Typer(
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Neural architecture search from one command line: search, report, export.",
    epilog="Start here: naxcli search --space nexception --data digits --budget 2m",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"naxcli {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["NAXCLI_DEBUG"] = "1"


search.register(app)
plan.register(app)
status.register(app)
stop.register(app)
report.register(app)
compare.register(app)
confirm.register(app)
export.register(app)
train.register(app)
bench.register(app)
study_rank.register(study.app)
app.add_typer(space.app, name="space")
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")


def main() -> None:
    """Run the command line."""
    prepare_streams()
    sys.excepthook = print_bug
    typer.main.get_command(app)(prog_name="naxcli")  # `app()` would put typer's own hook in place
