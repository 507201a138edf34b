"""The format `deepcave`: a whole run as SMAC 2.4 writes one, for DeepCAVE, and for SMAC's own RunHistory and Scenario.

Written and read back as JSON, without SMAC. DeepCAVE knows this form, with its `cpu_time`, since its issue 222 was closed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.export.destination import Destination, staged
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.trial import Config, Status

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

FILES = ("runhistory.json", "configspace.json", "scenario.json", "intensifier.json", "optimization.json")

# SMAC knows fewer ways to end; ours is kept in the trial's additional_info.
_SMAC_STATUS = {
    Status.SUCCESS: 1,
    Status.CRASHED: 2,
    Status.DIVERGED: 2,
    Status.INFEASIBLE: 2,
    Status.TIMEOUT: 3,
    Status.OUT_OF_MEMORY: 4,
    Status.STOPPED: 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A finished trial; times are Unix times."""

    trial_id: int
    config_id: str
    config: Config
    fidelity: float
    seed: int
    status: Status
    cost: float | None
    started_at: float
    ended_at: float
    error: str | None


def write_deepcave(run: RunDirectory, folder: Path, *, overwrite: bool = False) -> int:
    """Write a run's finished trials in SMAC's format, read them back, move them into place, and return their number.

    Args:
        run: Run with at least one finished trial.
        folder: Folder to make; DeepCAVE shows it under its name.
        overwrite: Whether an earlier export there may be replaced.

    Raises:
        NaxcliError: If the run has no finished trial or is damaged, or something is in the way.
    """
    destination = Destination(folder=folder, files=FILES, is_shared=False, overwrite=overwrite, has_common_names=True)
    with staged(destination) as staging:
        rows = _finished_rows(run)
        if not rows:
            raise NaxcliError(f"{run.path} has no finished trial to export", exit_code=ExitCode.FAILED)
        configspace = run.space_file.read_text(encoding="utf-8")
        contents = {
            "runhistory.json": _runhistory(rows),
            "configspace.json": json.loads(configspace),
            "scenario.json": _scenario(rows, name=run.name, folder=folder),
            "intensifier.json": _intensifier(rows),
            "optimization.json": _optimization(rows),
        }
        for name, content in contents.items():
            (staging / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
        _read_back(staging, rows)
    return len(rows)


def _finished_rows(run: RunDirectory) -> list[_Row]:
    """Return one row per configuration, fidelity and seed (the last, should one have been repeated), in order of their end."""
    with Records.open(run) as records:
        frame = records.trials_frame()
        finished = records.finished()
    times = frame.set_index("trial_id")[["started_at", "ended_at", "error"]].to_dict("index")
    rows: dict[tuple[str, float, int], _Row] = {}
    clock = 0.0
    for item in finished:
        started_at, ended_at, error = (times[item.trial.trial_id][name] for name in ("started_at", "ended_at", "error"))
        # An objective that keeps no times is laid out one trial after the other. NaN is pandas' missing number.
        if not (isinstance(started_at, float) and isinstance(ended_at, float) and started_at <= ended_at):
            started_at, ended_at = clock, clock + item.seconds
        clock = ended_at
        key = (item.trial.config_id, item.trial.fidelity, item.trial.seed)
        rows.pop(key, None)
        rows[key] = _Row(
            trial_id=item.trial.trial_id,
            config_id=item.trial.config_id,
            config=item.trial.config,
            fidelity=item.trial.fidelity,
            seed=item.trial.seed,
            status=item.status,
            cost=item.cost,
            started_at=started_at,
            ended_at=ended_at,
            error=error if isinstance(error, str) else None,
        )
    return list(rows.values())


def _numbered(rows: Sequence[_Row]) -> dict[str, int]:
    """Return SMAC's number of each configuration: 1, 2, ... in order of appearance."""
    return {config_id: number for number, config_id in enumerate(dict.fromkeys(row.config_id for row in rows), start=1)}


def _told_costs(rows: Sequence[_Row]) -> list[float]:
    """Return each trial's cost; a failed one counts as the worst, because SMAC accepts finite costs only."""
    worst = max((row.cost for row in rows if row.status == Status.SUCCESS and row.cost is not None), default=1.0)
    return [row.cost if row.status == Status.SUCCESS and row.cost is not None else worst for row in rows]


def _runhistory(rows: Sequence[_Row]) -> dict[str, Any]:
    numbers = _numbered(rows)
    return {
        "stats": {"submitted": len(rows), "finished": len(rows), "running": 0},
        "data": [
            {
                "config_id": numbers[row.config_id],
                "instance": None,
                "seed": row.seed,
                "budget": row.fidelity,
                "cost": cost,
                "time": row.ended_at - row.started_at,
                "cpu_time": 0.0,
                "status": _SMAC_STATUS[row.status],
                "starttime": row.started_at,
                "endtime": row.ended_at,
                "additional_info": {"trial_id": row.trial_id, "status": str(row.status), "error": row.error},
            }
            for row, cost in zip(rows, _told_costs(rows), strict=True)
        ],
        "configs": {str(numbers[row.config_id]): dict(row.config) for row in rows},
        "config_origins": {str(number): None for number in numbers.values()},
    }


def _scenario(rows: Sequence[_Row], *, name: str, folder: Path) -> dict[str, Any]:
    from naxcli import __version__

    seeds, fidelities = {row.seed for row in rows}, {row.fidelity for row in rows}
    return {
        "name": name,
        # SMAC appends name and seed to the folder unless it ends with them, and makes no folder on loading.
        "output_directory": str(folder / name / str(min(seeds))),
        "deterministic": len(seeds) == 1,
        "objectives": "cost",
        "n_trials": len(rows),
        "min_budget": min(fidelities) if len(fidelities) > 1 else None,
        "max_budget": max(fidelities) if len(fidelities) > 1 else None,
        "seed": min(seeds),
        "n_workers": 1,
        "_meta": {"written_by": f"naxcli {__version__}"},
    }


def _intensifier(rows: Sequence[_Row]) -> dict[str, Any]:
    numbers = _numbered(rows)
    highest = max(row.fidelity for row in rows)
    best: float | None = None
    trajectory: list[dict[str, Any]] = []
    for count, row in enumerate(rows, start=1):
        if row.status != Status.SUCCESS or row.cost is None or row.fidelity < highest:
            continue
        if best is None or row.cost < best:
            best = row.cost
            walltime = row.ended_at - rows[0].started_at
            number = numbers[row.config_id]
            trajectory.append({"config_ids": [number], "costs": [best], "trial": count, "walltime": walltime})
    incumbents = trajectory[-1]["config_ids"] if trajectory else []
    return {
        "incumbent_ids": incumbents,
        "rejected_config_ids": [number for number in numbers.values() if number not in incumbents],
        "incumbents_changed": len(trajectory),
        "trajectory": trajectory,
        "state": {},
    }


def _optimization(rows: Sequence[_Row]) -> dict[str, Any]:
    ended_at = max(row.ended_at for row in rows)
    return {
        "used_walltime": ended_at - min(row.started_at for row in rows),
        "used_target_function_walltime": sum(row.ended_at - row.started_at for row in rows),
        "used_target_function_cputime": 0.0,
        "last_update": ended_at,
        "finished": True,
    }


def _read_back(folder: Path, rows: Sequence[_Row]) -> None:
    """Raise NaxcliError unless the written configurations are legal in the written space, and all trials are there."""
    from ConfigSpace import Configuration, ConfigurationSpace

    space: ConfigurationSpace = ConfigurationSpace.from_json(folder / "configspace.json")
    history = json.loads((folder / "runhistory.json").read_text(encoding="utf-8"))
    configs = {number: dict(Configuration(space, values=values)) for number, values in history["configs"].items()}
    read = [
        (configs[str(entry["config_id"])], entry["budget"], entry["seed"], entry["cost"]) for entry in history["data"]
    ]
    written = [
        (dict(row.config), row.fidelity, row.seed, cost) for row, cost in zip(rows, _told_costs(rows), strict=True)
    ]
    if read != written:
        raise NaxcliError(
            "the run was not exported: read back, its trials differ",
            why="a value of a configuration has no exact form in JSON",
            exit_code=ExitCode.FAILED,
        )
