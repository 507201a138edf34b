"""Writing a report's files: folders made, each file whole or not at all."""

from __future__ import annotations

from pathlib import Path

from naxcli.run_directory import guard_disk, write_atomically


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file of the report.

    Raises:
        NaxcliError: if it cannot be written there.
    """
    make_folder(path.parent)
    write_atomically(path, content)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        NaxcliError: if it cannot be made, for instance because a file has that name.
    """
    with guard_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
