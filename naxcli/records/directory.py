"""RunDirectory: the files that are the identity of a search, written whole or not at all, and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.files import guard_disk
from naxcli.settings.experiment import Experiment, as_recorded, from_settings
from naxcli.settings.toml import read_toml

FileState = tuple[int, int, int]
DATABASE_FILES = ("search.db", "search.db.backup")
RECORD_FILES = (
    "experiment.toml",
    "space.json",
    "environment.json",
    "confirmation.json",
    "log.jsonl",
    "stop",
    "trials.parquet",
    "curves.parquet",
    "search.db-journal",
)
# May be there before the run; the last is the earlier name of the one before.
PLAN_FILES = ("plan.json", "trials_per_gpu.json", "packing.json")
_TEMPORARY = re.compile(
    rf"\.({'|'.join(map(re.escape, (*DATABASE_FILES, *RECORD_FILES, *PLAN_FILES)))})\.(\d+\.)?tmp(-journal)?", re.ASCII
)
_CHECKPOINT = re.compile(r"(\d+)\.pt", re.ASCII)
# As `replaced` names what it writes; eight characters are of earlier versions.
_TEMPORARY_CHECKPOINT = re.compile(r"\.\d+\.pt\.(\d+|[a-z0-9_]{8})\.tmp", re.ASCII)
# Checkpoints of `naxcli confirm`, and what `naxcli study` keeps: by their configuration and seed, and by their settings.
_CONFIRMED = re.compile(r"[0-9a-f]{12}-\d+\.pt", re.ASCII)
_TEMPORARY_CONFIRMED = re.compile(rf"\.{_CONFIRMED.pattern}\.\d+\.tmp", re.ASCII)
_STUDY = re.compile(r"[a-z]+-[0-9a-f]{12}\.(json|safetensors)", re.ASCII)
_TEMPORARY_STUDY = re.compile(rf"\.{_STUDY.pattern}\.\d+\.tmp", re.ASCII)
_LOCK_TEXT = re.compile(r"process \d+ on ")


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
    def restoring(self) -> str:
        """The command that puts the copy of a lost database in its place."""
        return f"cp {shlex.quote(str(self.backup))} {shlex.quote(str(self.database))}"

    @property
    def backup(self) -> Path:
        return self.path / "search.db.backup"

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
    def trials_per_gpu_file(self) -> Path:
        return self.path / "trials_per_gpu.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def confirmed(self) -> Path:
        """Folder of the networks that `naxcli confirm` trained and kept."""
        return self.path / "confirmed"

    @property
    def studies(self) -> Path:
        """Folder of what `naxcli study` found."""
        return self.path / "studies"

    @property
    def log_file(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def stop_file(self) -> Path:
        return self.path / "stop"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    def checkpoint(self, trial_id: int) -> Path:
        return self.checkpoints / f"{trial_id}.pt"

    def checkpoint_files(self) -> dict[int, Path]:
        """Return the files of trained networks by trial; files of other names in the folder are not naxcli's."""
        found = {_CHECKPOINT.fullmatch(path.name): path for path in self.checkpoints.glob("*.pt")}
        return {int(match[1]): path for match, path in found.items() if match}

    def confirmed_checkpoint(self, config_id: str, seed: int) -> Path:
        return self.confirmed / f"{config_id}-{seed}.pt"

    def study_files(self) -> list[Path]:
        """Return what studies left, finished or not; files of other names in the folder are not naxcli's."""
        return _files_named(self.studies, _STUDY)

    def settings(self) -> dict[str, Any]:
        """Return the stored settings.

        Raises:
            NaxcliError: if there is no run here, or its file is damaged.
        """
        if not self.experiment_file.exists():
            raise NaxcliError(
                f"there is no run in {self.path}",
                why=f"{self.experiment_file} is missing" if self.database.exists() else "",
                hint="naxcli search starts one, or restores one that lost its settings; --run DIR names one",
            )
        return as_recorded(read_toml(self.experiment_file))

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

    def trials_per_gpu(self) -> dict[str, Any]:
        """Return what was measured of trials that share a GPU; empty where nothing was."""
        return self.read_json(self.trials_per_gpu_file) or self.read_json(self.path / "packing.json")

    def clear(self) -> None:
        """Delete the files that belong to its trials, but for the database and its copy, by which the folder is known as a run.

        Files of others stay, and so does what a link in the place of `checkpoints` leads to.
        """
        if not self.checkpoints.is_symlink():
            for path in self.checkpoint_files().values():
                _remove_file(path)
        self.remove_confirmed()
        # A study may be at work beside a search: only here are its temporary files leftovers.
        for path in (*self.study_files(), *_files_named(self.studies, _TEMPORARY_STUDY)):
            _remove_file(path)
        self.remove_leftovers()
        for name in RECORD_FILES:
            _remove_file(self.path / name)

    def remove_confirmed(self) -> None:
        """Delete the networks that `naxcli confirm` kept."""
        for path in _files_named(self.confirmed, _CONFIRMED):
            _remove_file(path)

    def remove_leftovers(self) -> None:
        """Delete the temporary files of a process that was killed while it wrote."""
        for path in self.path.glob(".*.tmp*"):
            if _TEMPORARY.fullmatch(path.name):
                _remove_file(path)
        if not self.checkpoints.is_symlink():
            for path in self.checkpoints.glob(".*.tmp"):
                if _TEMPORARY_CHECKPOINT.fullmatch(path.name):
                    _remove_file(path)
        for path in _files_named(self.confirmed, _TEMPORARY_CONFIRMED):
            _remove_file(path)

    @contextlib.contextmanager
    def locked(self, *, hint: str = "") -> Iterator[None]:
        """Hold the run for this process; the operating system releases it when the process ends, however it ends.

        Args:
            hint: what to do where another process holds it; that of a search where empty.

        Raises:
            NaxcliError: if another process holds it, or the file `lock` is somebody else's.
        """
        with guard_disk(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.is_lock_ours():
                raise NaxcliError(
                    f"{self.lock_file} is not a lock of naxcli",
                    why="naxcli writes a file of that name",
                    hint="name another folder, or move the file away",
                )
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "r+", encoding="utf-8") as handle:
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
            with guard_disk(self.path):
                # Over the old text, so that a kill never leaves a lock that nobody knows as naxcli's.
                handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                handle.truncate()
            yield

    def is_lock_ours(self) -> bool:
        """Return whether `lock` is a lock of naxcli, or not there; an empty one is where nothing else is in the folder."""
        if not os.path.lexists(self.lock_file):
            return True
        if not self.lock_file.is_file():
            return False
        with self.lock_file.open("rb") as handle:
            start = handle.read(100).decode("utf-8", "replace")
        return bool(_LOCK_TEXT.match(start)) or (not start and list(self.path.iterdir()) == [self.lock_file])

    def is_locked(self) -> bool:
        """Return whether a process is running this search now."""
        if not self.lock_file.exists():
            return False
        with self.lock_file.open("rb") as handle:  # shared, for which the right to read is enough, on NFS as well
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


def _files_named(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Return the files of a folder with a name of ours; none of one that is a link, for it leads to somebody else's."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if pattern.fullmatch(path.name)]


def _remove_file(path: Path) -> None:
    """Delete a file or a link; a folder of that name is not naxcli's."""
    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)


def file_state(path: Path) -> FileState | None:
    """Return what tells a file from the one that was there before, or that will be there after it was written; None without one."""
    try:
        state = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size


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
