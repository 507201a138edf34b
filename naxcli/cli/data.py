"""`naxcli data list|prepare|check`."""

from __future__ import annotations

from typing import Annotated

import typer

from naxcli.cli import options

app = typer.Typer(no_args_is_help=True, help="Find, download and check data sets.", rich_markup_mode="rich")

NameArgument = Annotated[str, typer.Argument(metavar="DATA", help="cifar100, cifar10, digits, folder:DIR or hf:NAME.")]
RootOption = Annotated[str, typer.Option("--data-root", envvar="NAXCLI_DATA_ROOT", help="Folder of the data sets.")]


@app.command("list")
def list_all(data_root: RootOption = "data", as_json: options.JsonOption = False) -> None:
    """List the data sources and which of them are on this machine."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.data import list_sources

    rows = list_sources(data_root)
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for column in ("name", "classes", "channels", "size", "here"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["name"]),
            str(row["num_classes"]),
            str(row["in_channels"]),
            str(row["image_size"]),
            "yes" if row["is_present"] else "no",
        )
    table.add_row("folder:DIR", "", "", "", "images in one folder per class")
    table.add_row("hf:NAME", "", "", "", "Hugging Face datasets")
    stdout_console().print(table)


@app.command()
def prepare(name: NameArgument, data_root: RootOption = "data") -> None:
    """Download a data set where it is missing, and verify its checksum."""
    _describe(name, data_root)


@app.command()
def check(
    name: NameArgument,
    data_root: RootOption = "data",
    image_size: Annotated[
        int | None, typer.Option("--image-size", min=1, help="Side in pixels that images are resized to.")
    ] = None,
    skip_corrupt: Annotated[
        bool, typer.Option("--skip-corrupt", help="Name and leave out image files that cannot be read.")
    ] = False,
    as_json: options.JsonOption = False,
) -> None:
    """Read a data set as a search would, and print its sizes and content hash."""
    _describe(name, data_root, image_size=image_size, skip_corrupt=skip_corrupt, as_json=as_json)


def _describe(
    name: str, data_root: str, *, image_size: int | None = None, skip_corrupt: bool = False, as_json: bool = False
) -> None:
    from naxcli.cli.output import note, print_json
    from naxcli.commands.data import describe_source

    described, notices = describe_source(name, data_root, image_size=image_size, skip_corrupt=skip_corrupt)
    for notice in notices:
        note(f"note: {notice}")
    if as_json:
        print_json(described)
        return
    typer.echo(
        f"{name}: {described['num_images']:,} training and {described['num_test_images']:,} test images of "
        f"{described['num_classes']} classes, "
        f"{described['in_channels']} x {described['image_size']} x {described['image_size']}, content {described['content_hash']}"
        + (", official" if described["is_official"] else ", not the official content")
    )
