"""Session: what a request for a search means, with the run that is in its folder; nothing is written."""

from __future__ import annotations

import os
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import FileState, RunDirectory, file_state
from naxcli.search_space.contract import Space, load_space, shipped_spaces
from naxcli.search_space.recipe_choices import settings_always_chosen
from naxcli.search_space.recorded import load_recorded_space
from naxcli.settings.choices import searcher_file
from naxcli.settings.experiment import Experiment, as_recorded, differences, from_settings
from naxcli.settings.sources import ENVIRONMENT_PREFIX, find_experiment_file, resolve
from naxcli.settings.toml import read_toml

if TYPE_CHECKING:
    pass

FILES = "--experiment"  # what settings come from that the user did not give one by one
FLAG_NAMES = {"warm_start": "from"}  # of settings whose flag has another name
# Settings that are shown in a refusal, not the whole list.
MAX_DIFFERENCES_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What a user asked for: a space by name, settings by source, and where the run lives.

    Args:
        space: Shipped name, Python file, or `package.module:SPACE`; None takes that of the experiment file or of the run.
        flags: Settings of an `Experiment` by name, tables as mappings or by dotted names; None stands for not given.
        assignments: Settings as `NAME=VALUE` texts, stronger than flags.
        experiment_file: Experiment file, or the name of a shipped one.
        run: Run directory; None is `runs/<space>-<data>`.
        overwrite: Whether an existing run is deleted and started anew.
        trust: Whether the experiment file may name the space's file, which is code, by a path relative to itself.
    """

    space: str | None
    flags: Mapping[str, Any]
    assignments: Sequence[str] = ()
    experiment_file: str | None = None
    run: str | None = None
    overwrite: bool = False
    trust: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A resolved request.

    Args:
        request: What was asked for.
        space: The loaded space.
        experiment: The settings from all sources.
        run: Directory of the run.
        is_new: Whether a run is made, in the place of one that is there, if so.
        found: What tells the state of the database in the folder from an earlier and a later one; None without one.
    """

    request: SearchRequest
    space: Space
    experiment: Experiment
    run: RunDirectory
    is_new: bool
    found: FileState | None


def open_session(request: SearchRequest, *, loaded: Space | None = None) -> Session:
    """Return the session that a request describes, without writing anything.

    Args:
        request: What was asked for.
        loaded: The space, where it was loaded before.

    Raises:
        NaxcliError: If the settings are wrong, or differ from those of the existing run, or the folder is somebody else's.
    """
    named = None if request.run is None else RunDirectory(path=Path(request.run))
    stored = None if named is None else _stored_settings(named, request)
    reference = request.space or _space_of_file(request.experiment_file, trust=request.trust)
    if loaded is not None:
        space = loaded
    elif reference is not None:
        space = load_space(reference)
    elif stored is not None:
        space = load_recorded_space(stored)
    else:
        raise NaxcliError("no search space was named", hint="naxcli search --space nexception --budget 3d")
    origin = space.origin
    has_networks = space.is_trained
    chosen = settings_always_chosen(space.configuration_space()) if has_networks else ()
    flags = {**request.flags, "space": origin}

    def resolved(base: Mapping[str, Any] | None) -> Experiment:
        experiment = resolve(
            flags=flags,
            assignments=request.assignments,
            experiment_file=request.experiment_file,
            stored=base,
            has_networks=has_networks,
            chosen=chosen,
        )
        _require_named_searcher(experiment, request)
        return experiment

    if named is not None:
        run = named
    else:
        run = RunDirectory(path=resolved(None).default_run_dir(space.name))
        stored = _stored_settings(run, request)
    found = file_state(run.database)
    if stored is not None:
        try:
            experiment = resolved(stored)
            _refuse_differences(request, run, from_settings(stored), experiment)
            return Session(request=request, space=space, experiment=experiment, run=run, is_new=False, found=found)
        except NaxcliError:
            # A run in which no trial has finished, for instance because its cluster was not there, may get other settings.
            if reference is None or not _is_untried(run):
                raise
    return Session(request=request, space=space, experiment=resolved(None), run=run, is_new=True, found=found)


def _stored_settings(run: RunDirectory, request: SearchRequest) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, from its records where its file of them was lost; None of one to be made.

    Raises:
        NaxcliError: if the folder is somebody else's, or neither settings nor records can be read.
    """
    from naxcli.records.database import Records
    from naxcli.records.ownership import require_ours

    require_ours(run)
    if request.overwrite or not run.database.exists():
        return None
    if run.experiment_file.exists():
        return run.settings()
    with Records.open(run) as records:
        recorded = records.meta("experiment")
        if recorded is not None and records.has_trials():
            return as_recorded(tomllib.loads(recorded))
        if records.has_trials():
            raise NaxcliError(
                f"{run.path} holds records but no experiment.toml",
                why="its settings are gone, so it cannot be resumed, and naxcli does not delete trials unasked",
                hint="restore the file, name another folder with --run, or delete this one with --overwrite",
            )
    return None  # left by a process that was killed while it made the run


def decided_again(session: Session) -> Session:
    """Return the session as its request stands now that no other process can change the run.

    Raises:
        NaxcliError: if another process changed what the request means, before this one held the run.
    """
    now = open_session(session.request, loaded=session.space)
    if now.is_new != session.is_new or (now.is_new and now.found != session.found):
        raise NaxcliError(
            f"another process searched in {session.run.path} while this one was starting",
            why="what it left is kept",
            hint="the same command again goes on from there, or with --overwrite replaces it",
            exit_code=ExitCode.FAILED,
        )
    return now


def _is_untried(run: RunDirectory) -> bool:
    """Return whether not one trial of a run has ended, as far as its records can be read."""
    from naxcli.records.database import Records

    try:
        with Records.open(run) as records:
            return not records.finished()
    except NaxcliError:
        return False


def _space_of_file(experiment_file: str | None, *, trust: bool) -> str | None:
    """Return the space that an experiment file names: one that ships, or, where the user trusts the file, any.

    A path is relative to the file; with a colon and no slash it is a module, as on the command line.
    """
    if experiment_file is None:
        return None
    file = find_experiment_file(experiment_file)
    named = read_toml(file).get("space")
    if named is None or named in shipped_spaces():
        return named
    space = str(named)
    is_module = ":" in space and "/" not in space
    reference = space if is_module else os.path.relpath(file.parent / space)
    if not trust:
        raise NaxcliError(
            f"the space of {experiment_file} is the {'module' if is_module else 'file'} {space}",
            why="a space is code, and is only loaded when you name it, or trust the file that names it",
            hint=f"add --trust, or --space {shlex.quote(reference)}",
        )
    return reference if is_module or "/" in reference else f"./{reference}"


def _require_named_searcher(experiment: Experiment, request: SearchRequest) -> None:
    """Refuse a searcher's file that only a file or a run names."""
    if searcher_file(experiment.searcher) is None or _source_of(request, "searcher") != FILES:
        return
    raise NaxcliError(
        f"the searcher is in the file {experiment.searcher}",
        why="a searcher's file is code, and is only loaded when you name it",
        hint=f"add --searcher {shlex.quote(experiment.searcher)}",
    )


def _refuse_differences(request: SearchRequest, run: RunDirectory, stored: Experiment, wanted: Experiment) -> None:
    changed = differences(stored, wanted)
    if not changed:
        return
    sources = dict.fromkeys(_source_of(request, name) for name, _, _ in changed)
    if request.experiment_file is None and len(sources) > 1:
        sources.pop(FILES, None)  # a setting that follows from another one
    lines = [f"{name}: {before!r} in the run, {after!r} now" for name, before, after in changed[:MAX_DIFFERENCES_SHOWN]]
    raise NaxcliError(
        f"{run.path} is a run with other settings",
        why="; ".join(lines),
        hint=f"leave out {' and '.join(sources)} to resume; "
        "--run DIR starts another; --overwrite deletes it and starts anew",
    )


def _source_of(request: SearchRequest, setting: str) -> str:
    """Return what the user wrote to give a setting another value than an existing run has."""
    names = {setting, "epochs"} if setting == "fidelity" else {setting, setting.partition(".")[0]}
    for name in (assignment.partition("=")[0].strip() for assignment in request.assignments):
        if name in names:
            return name
    for name, value in request.flags.items():
        if value is not None and name in names:
            return f"--{FLAG_NAMES.get(name, name).rpartition('.')[2].replace('_', '-')}"
    variables = [ENVIRONMENT_PREFIX + name.upper().replace(".", "__") for name in sorted(names)]
    return next((variable for variable in variables if variable in os.environ), FILES)
