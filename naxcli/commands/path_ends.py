"""The two ends of a path between networks: two seeds of one configuration, trials of a run or networks of `naxcli confirm`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from naxcli.commands.select import Selection, select_of_run
from naxcli.commands.study import StudyRequest, identity_of, select_trial
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import config_id
from naxcli.settings.units import format_value

CONFIRM_HINT = "naxcli confirm --keep-checkpoints trains several seeds of the best configurations, and keeps them"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEnds:
    """Two trained networks. `on_test` says whether they were trained on everything but the test set."""

    selections: Sequence[Selection]
    names: Sequence[str]
    identities: Sequence[dict[str, Any]]
    on_test: bool


def select_ends(run: RunDirectory, trials: Sequence[str], confirmed: str | None, request: StudyRequest) -> PathEnds:
    """Return the ends that a user names.

    Args:
        run: Directory of the run.
        trials: Two trials, or none where they are networks of `naxcli confirm`.
        confirmed: Name of the confirmed configuration, None for the winner.
        request: Where space and data are found.

    Raises:
        NaxcliError: If they are not two seeds of one configuration, or the run has no such networks.
    """
    if trials and confirmed is not None:
        raise NaxcliError("--trial and --confirmed both name the ends of the path", hint="give one of them")
    return _trials(run, trials, request) if trials else _confirmed(run, confirmed, request)


def _trials(run: RunDirectory, trials: Sequence[str], request: StudyRequest) -> PathEnds:
    if len(trials) != 2:
        raise NaxcliError(f"a path has two ends, and --trial names {len(trials)}", hint="--trial A --trial B")
    selections = [select_trial(run, trial, request) for trial in trials]
    first, second = selections
    names = [f"trial {selection.trial_id}" for selection in selections]
    if config_id(first.config) != config_id(second.config):
        different = [
            f"{name} is {_value(first.config, name)} and {_value(second.config, name)}"
            for name in dict.fromkeys((*first.config, *second.config))
            if first.config.get(name) != second.config.get(name)
        ]
        raise NaxcliError(
            f"trials {first.trial_id} and {second.trial_id} are of two configurations",
            why="; ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else ""),
            hint=CONFIRM_HINT,
        )
    if first.provenance["seed"] == second.provenance["seed"]:
        raise NaxcliError(
            f"trials {first.trial_id} and {second.trial_id} are one training",
            why=f"both have the seed {first.provenance['seed']}",
            hint=CONFIRM_HINT,
        )
    return PathEnds(
        selections=selections,
        names=names,
        identities=[identity_of(selection) for selection in selections],
        on_test=False,
    )


def _value(config: Any, name: str) -> str:
    return format_value(config[name]) if name in config else "inactive"


def _confirmed(run: RunDirectory, confirmed: str | None, request: StudyRequest) -> PathEnds:
    confirmation = run.read_json(run.confirmation_file)
    rows = confirmation.get("results") or []
    name = confirmed or (confirmation.get("verdict") or {}).get("winner")
    known = list(dict.fromkeys(row["name"] for row in rows))
    if name is None or name not in known:
        raise NaxcliError(
            f"{run.path} has no two networks to go between"
            if confirmed is None
            else f"{run.path} has no confirmed configuration {confirmed!r}",
            why=f"confirmed are {', '.join(known)}" if known else "naxcli confirm has not confirmed it",
            hint=f"--trial A --trial B names two trials; {CONFIRM_HINT}",
            exit_code=ExitCode.FAILED if confirmed is None else ExitCode.USAGE,
        )
    # By seed, as rows are in the order in which their trainings ended.
    kept = sorted(
        (
            row
            for row in rows
            if row["name"] == name and run.confirmed_checkpoint(row["config_id"], row["seed"]).is_file()
        ),
        key=lambda row: int(row["seed"]),
    )
    if len(kept) < 2:
        raise NaxcliError(
            f"{run.path} has the networks of {len(kept)} seeds of {name!r}",
            why="naxcli confirm keeps its networks only where it is asked to",
            hint=CONFIRM_HINT,
            exit_code=ExitCode.FAILED,
        )
    selections = [
        dataclasses.replace(
            select_of_run(run, row["config"], request.space, what=f"confirmed {name!r}"),
            weights=run.confirmed_checkpoint(row["config_id"], row["seed"]),
        )
        for row in kept[:2]
    ]
    epochs = confirmation["settings"]["epochs"]
    return PathEnds(
        selections=selections,
        names=[f"{name}, seed {row['seed']}" for row in kept[:2]],
        identities=[
            {"config_id": row["config_id"], "seed": row["seed"], "fidelity": epochs, "confirmed": True}
            for row in kept[:2]
        ],
        on_test=True,
    )
