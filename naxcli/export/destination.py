"""staged: files appear in their folder complete and checked, or not at all."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.files import DISK_FULL

_STAGING_PREFIX = ".naxcli-export-"
_FULL = DISK_FULL | {errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where an export goes.

    Args:
        folder: Folder for the files.
        files: Names of the files in the folder, the main one first.
        is_shared: Whether other files may lie there already, because the user named a file and not a folder.
        overwrite: Whether these files may be replaced.
        has_common_names: Whether other programs use these names, such as README.md: then only those of an export are replaced.
    """

    folder: Path
    files: Sequence[str]
    is_shared: bool
    overwrite: bool
    has_common_names: bool = False

    def check(self) -> None:
        """Raise NaxcliError if something is in the way."""
        # A file anywhere on the way is as much in the way as at the end.
        if file := next(
            (path for path in (self.folder, *self.folder.parents) if path.exists() and not path.is_dir()), None
        ):
            raise NaxcliError(f"{file} is a file", hint="name a folder with --out")
        hint = "name another place with --out, or pass --overwrite to replace the exported files there"
        if not self.folder.exists():
            return
        present = [name for name in self.files if (self.folder / name).exists()]
        if self.overwrite:
            if self.has_common_names and present and not any(_names_naxcli(self.folder / name) for name in present):
                raise NaxcliError(
                    f"{self.folder / present[0]} is not of an export",
                    why="--overwrite replaces exports only",
                    hint="name another place with --out, or move the file away",
                )
        elif self.is_shared:
            if present:
                raise NaxcliError(f"{self.folder / present[0]} exists already", hint=hint)
        elif any(not path.name.startswith(_STAGING_PREFIX) for path in self.folder.iterdir()):
            raise NaxcliError(f"the folder {self.folder} exists already and is not empty", hint=hint)


def _names_naxcli(path: Path) -> bool:
    """Return whether a file says by what it was written: in every format one of the files does."""
    return path.is_file() and b"naxcli" in path.read_bytes()


@contextmanager
def staged(destination: Destination) -> Iterator[Path]:
    """Yield an empty folder on the destination's file system; at the end its files move to the destination.

    If the body raises, nothing is left behind, and what was at the destination stays as it was.

    Raises:
        NaxcliError: If something is in the way, the disk is full, or the place must not be written to.
    """
    destination.check()
    folder = destination.folder.absolute()
    # Beside the files to come, so that moving them is a rename.
    nearest = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    try:
        with tempfile.TemporaryDirectory(prefix=_STAGING_PREFIX, dir=nearest) as temporary:
            # A folder of its own inside, so that it has the usual permissions: temporary folders are private.
            staging = Path(temporary) / "export"
            staging.mkdir()
            yield staging
            _publish(staging, destination)
    except OSError as error:
        if error.errno in _FULL:
            raise NaxcliError(
                f"{destination.folder} could not be written",
                why="the disk is full; nothing was left behind",
                hint="free some space, or name another place with --out",
                exit_code=ExitCode.FAILED,
            ) from error
        if error.errno in _FORBIDDEN:
            raise NaxcliError(
                f"{destination.folder} could not be written", why=str(error), hint="name another place with --out"
            ) from error
        raise


def _publish(staging: Path, destination: Destination) -> None:
    destination.check()  # again: writing took a while
    if not destination.folder.exists():
        destination.folder.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(destination.folder)
        return
    # The main file goes last, so that it never stands beside files that are older than itself.
    for name in reversed(destination.files):
        (staging / name).replace(destination.folder / name)
