"""`naxcli data list|prepare|check`."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Find, download and check data sets.", rich_markup_mode="rich")

NameArgument = Annotated[str, typer.Argument(metavar="DATA", help="cifar100, cifar10, digits, folder:DIR or hf:NAME.")]
RootOption = Annotated[str, typer.Option("--data-root", envvar="NAXCLI_DATA_ROOT", help="Folder of the data sets.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command("list")
def list_sources(data_root: RootOption = "data", as_json: JsonOption = False) -> None:
    """List the data sources and which of them are on this machine."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.data.sources import describe_dataset, is_present, known_names

    rows = []
    for name in known_names():
        if ":" in name:  # a kind of source rather than one
            continue
        described = describe_dataset(name, data_root)
        rows.append(
            {
                "name": name,
                "num_classes": described.num_classes,
                "in_channels": described.in_channels,
                "image_size": described.image_size,
                "is_present": is_present(name, data_root),
            }
        )
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
    as_json: JsonOption = False,
) -> None:
    """Read a data set as a search would, and print its sizes and content hash."""
    _describe(name, data_root, image_size=image_size, skip_corrupt=skip_corrupt, as_json=as_json)


def _describe(
    name: str, data_root: str, *, image_size: int | None = None, skip_corrupt: bool = False, as_json: bool = False
) -> None:
    import numpy as np

    from naxcli.cli.output import note, print_json
    from naxcli.data.sources import load_split

    train, test = (
        load_split(name, data_root, split=which, image_size=image_size, skip_corrupt=skip_corrupt)
        for which in ("train", "test")
    )
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    described = {
        "name": name,
        "num_images": len(train.labels),
        "num_test_images": len(test.labels),
        "num_classes": len(train.class_names),
        "in_channels": int(train.images.shape[1]),
        "image_size": int(train.images.shape[2]),
        "content_hash": train.content_hash(),
        "is_official": train.is_official,
        "smallest_class": int(counts.min()),
        "largest_class": int(counts.max()),
    }
    for notice in (*train.notices, *test.notices):
        note(f"note: {notice}")
    if as_json:
        print_json(described)
        return
    typer.echo(
        f"{name}: {described['num_images']:,} training and {described['num_test_images']:,} test images of "
        f"{described['num_classes']} classes, "
        f"{described['in_channels']} x {described['image_size']} x {described['image_size']}, content {described['content_hash']}"
        + (", official" if train.is_official else ", not the official content")
    )
