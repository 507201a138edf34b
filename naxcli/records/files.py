"""Files written whole or not at all: where they may go, and what a full disk says."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from naxcli.errors import ExitCode, NaxcliError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write that takes the place of `path` when the block ends, and leaves no trace if it fails.

    It is a temporary sibling, flushed to disk and then renamed: readers see the old file or the new one, whole.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with guard_disk(path), discard_on_error(temporary):
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replaced(path) as handle:
        handle.write(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def discard_on_error(temporary: Path) -> Iterator[None]:
    """Remove a temporary file if the block that writes it does not finish."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def guard_disk(path: Path) -> Iterator[None]:
    """Turn a full or unwritable disk into an error that says what is safe."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise disk_full(path) from error
        if isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            raise NaxcliError(f"{path} cannot be written", why=error.strerror or str(error)) from error
        raise


def disk_full(path: Path) -> NaxcliError:
    """Return the error of a full disk."""
    return NaxcliError(
        f"the disk is full: {path} could not be written",
        why="every finished trial recorded so far is safe in search.db",
        hint="free some space and run the same command again: it resumes",
        exit_code=ExitCode.FAILED,
    )


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
    # Half of a surrogate pair, which untrusted text may hold, is no text in UTF-8.
    write_atomically(path, content.encode(errors="replace") if isinstance(content, str) else content)


def make_folder(folder: Path) -> None:
    """Make a folder where it is missing.

    Raises:
        NaxcliError: if it cannot be made, for instance because a file has that name.
    """
    check_target(folder, is_folder=True)
    with guard_disk(folder):
        folder.mkdir(exist_ok=True)
