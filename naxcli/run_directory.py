"""RunDirectory: the files that are the identity of a search, written whole or not at all, and its lock."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.experiment import Experiment, from_settings, read_toml

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDirectory:
    """Paths and plain files of one run; the records themselves are in `records`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def experiment_file(self) -> Path:
        return self.path / "experiment.toml"

    @property
    def space_file(self) -> Path:
        return self.path / "space.json"

    @property
    def environment_file(self) -> Path:
        return self.path / "environment.json"

    @property
    def database(self) -> Path:
        return self.path / "search.db"

    @property
    def trials_file(self) -> Path:
        return self.path / "trials.parquet"

    @property
    def curves_file(self) -> Path:
        return self.path / "curves.parquet"

    @property
    def confirmation_file(self) -> Path:
        return self.path / "confirmation.json"

    @property
    def plan_file(self) -> Path:
        return self.path / "plan.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def stop_file(self) -> Path:
        return self.path / "stop"

    @property
    def exists(self) -> bool:
        """Whether a search was started here: its settings are written before anything else."""
        return self.experiment_file.exists()

    def checkpoint(self, trial_id: int) -> Path:
        return self.checkpoints / f"{trial_id}.pt"

    def settings(self) -> dict[str, Any]:
        """Return the stored settings.

        Raises:
            NaxcliError: if there is no run here, or its file is damaged.
        """
        if not self.exists:
            raise NaxcliError(f"there is no run in {self.path}", hint="naxcli search starts one; --run DIR names one")
        return read_toml(self.experiment_file)

    def experiment(self) -> Experiment:
        return from_settings(self.settings())

    def read_json(self, path: Path) -> dict[str, Any]:
        """Return a JSON object of the run, or {} where the file does not exist."""
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise NaxcliError(f"{path} is not valid JSON", why=str(error)) from error
        if not isinstance(content, dict):
            raise NaxcliError(f"{path} does not hold a JSON object")
        return content

    def remove(self) -> None:
        """Delete the files naxcli writes; files of others in the folder stay."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        names = ("experiment.toml", "space.json", "environment.json", "confirmation.json", "log.jsonl", "stop")
        for name in (*names, "trials.parquet", "curves.parquet"):
            (self.path / name).unlink(missing_ok=True)
        for path in self.path.glob("search.db*"):
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self, *, hint: str = "") -> Iterator[None]:
        """Hold the run for this process; the operating system releases it when the process ends, however it ends.

        Args:
            hint: what to do where another process holds it; that of a search where empty.

        Raises:
            NaxcliError: if another process holds it.
        """
        with guard_disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / "lock").open("a+", encoding="utf-8")
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                handle.seek(0)
                name = shlex.quote(str(self.path))
                raise NaxcliError(
                    f"another process is running {self.path}",
                    why=f"held by {handle.read().strip() or 'an unknown process'}",
                    hint=hint or f"naxcli status {name} shows it, naxcli stop {name} ends it",
                    exit_code=ExitCode.FAILED,
                ) from error
            handle.seek(0)
            handle.truncate()
            with guard_disk(self.path):
                handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                handle.flush()
            yield

    def is_locked(self) -> bool:
        """Return whether a process is running this search now."""
        lock = self.path / "lock"
        if not lock.exists():
            return False
        with lock.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all: a temporary sibling, flushed to disk, then renamed over the old one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with guard_disk(path), discard_on_error(temporary):
        with temporary.open("wb") as handle:
            handle.write(content.encode() if isinstance(content, str) else content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)


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


def newest_run(root: Path = Path("runs")) -> RunDirectory:
    """Return the run whose records changed last.

    Raises:
        NaxcliError: if there is none.
    """
    runs = [path.parent for path in root.glob("*/search.db")]
    if not runs:
        raise NaxcliError(f"there is no run under {root}/", hint="naxcli search starts one; or name a run directory")
    return RunDirectory(path=max(runs, key=lambda run: (run / "search.db").stat().st_mtime))


def open_run(path: str | None) -> RunDirectory:
    """Return the named run, or the newest one."""
    run = newest_run() if path is None else RunDirectory(path=Path(path))
    run.settings()
    return run
