"""Writing a report's files: where they may go, and each file whole or not at all."""

from __future__ import annotations

import shlex
from pathlib import Path

from naxcli.errors import NaxcliError
from naxcli.run_directory import guard_disk, write_atomically


def check_target(path: Path, *, is_folder: bool) -> None:
    """Refuse a file or a folder that cannot be written; a folder may be missing, but not the one that it is to be in.

    Raises:
        NaxcliError: if the folder around it is missing, which may be a slip of the pen, or something else has its name.
    """
    parent = path.parent
    if not parent.is_dir():
        why = f"{parent} is a file" if parent.exists() else f"there is no folder {parent}"
        hint = "" if parent.exists() else f"mkdir -p {shlex.quote(str(parent))}"
        raise NaxcliError(f"{path} cannot be written", why=why, hint=hint)
    if path.exists() and path.is_dir() is not is_folder:
        what = "folder" if path.is_dir() else "file"
        raise NaxcliError(
            f"{path} cannot be written", why=f"there is a {what} of that name", hint="choose another name"
        )


def write_file(path: Path, content: str | bytes) -> None:
    """Write one file of the report.

    Raises:
        NaxcliError: if it cannot be written there.
    """
    check_target(path, is_folder=False)
    # Half of a surrogate pair, which a stranger's text may hold, is no text in UTF-8.
    write_atomically(path, content.encode(errors="replace") if isinstance(content, str) else content)


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing.

    Raises:
        NaxcliError: if it cannot be made, for instance because a file has that name.
    """
    check_target(folder, is_folder=True)
    with guard_disk(folder):
        folder.mkdir(exist_ok=True)
