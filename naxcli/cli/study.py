"""`naxcli study`: observational studies of networks."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Observational studies of networks.", rich_markup_mode="rich")
