"""Whether a folder may become a run: nothing that naxcli did not write is written over or deleted, whatever it is called."""

from __future__ import annotations

import os
from pathlib import Path

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import is_database
from naxcli.records.directory import DATABASE_FILES, PLAN_FILES, RECORD_FILES, RunDirectory

# What `plan` and the first search leave in their files, by which these are known.
_PLAN_KEYS = {
    "plan.json": {"settings", "rungs"},
    "trials_per_gpu.json": {"devices", "per_device"},
    "packing.json": {"devices", "per_device"},
}


def require_ours(run: RunDirectory) -> None:
    """Refuse a folder that holds files by the names of a run, and no run of naxcli; write nothing.

    A run is known by its database. It is written whole, before any other file, and replaced, never deleted: what a process leaves
    that was killed at any moment is a run, too.

    Raises:
        NaxcliError: if there are such files; of a run that lost its database it names the copy.
    """
    if is_database(run.database):
        return
    has_copy = is_database(run.backup)
    if has_copy and run.database.exists():
        return  # damaged, as opening it says
    foreign = _foreign_names(run)
    if not foreign:
        return
    if has_copy:
        raise _lost_database(run)
    is_damaged = run.database.exists() and run.experiment_file.exists()
    why = f"naxcli would write over {'it' if len(foreign) == 1 else 'them'}, and deletes nothing that it did not write"
    raise NaxcliError(
        f"{run.path} holds {', '.join(foreign)}, and no run of naxcli",
        why=f"{run.database} is damaged, or was never naxcli's, and it has no backup" if is_damaged else why,
        hint=f"name another folder with --run, or move {'that' if len(foreign) == 1 else 'those'} away",
    )


def _foreign_names(run: RunDirectory) -> list[str]:
    names = [name for name in (*RECORD_FILES, *DATABASE_FILES) if os.path.lexists(run.path / name)]
    names += [name for name in PLAN_FILES if os.path.lexists(run.path / name) and not _is_plan(run, run.path / name)]
    if os.path.lexists(run.checkpoints):
        names.append(f"{run.checkpoints.name}/")
    if not run.is_lock_ours():
        names.append(run.lock_file.name)
    return names


def _is_plan(run: RunDirectory, path: Path) -> bool:
    try:
        return run.read_json(path).keys() >= _PLAN_KEYS[path.name]
    except (NaxcliError, OSError):
        return False


def _lost_database(run: RunDirectory) -> NaxcliError:
    return NaxcliError(
        f"{run.path} is a run that lost its {run.database.name}",
        why=f"its copy {run.backup} is there, made when the search last started or a minute before it ended",
        hint=f"{run.restoring}, and run the same command again: it resumes",
        exit_code=ExitCode.FAILED,
    )
