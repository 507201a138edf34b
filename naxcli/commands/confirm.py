"""Confirmation: the best configurations and the references, trained anew with fresh paired seeds, measured once on the test set.

The search's own number is the best of many on one validation set, so it is too good. Here every configuration trains on training and
validation images together with the same fresh seeds as every other, and only the result of these trainings is compared.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from naxcli.analysis.winners import confirmed_gain
from naxcli.commands.search_data import data_of_run
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.files import write_atomically
from naxcli.records.history import FinishedTrial
from naxcli.records.incumbent import ranked
from naxcli.records.trial import Result, Status, config_id
from naxcli.search_space.contract import Space, to_configuration
from naxcli.search_space.recorded import load_recorded_space
from naxcli.workers.batch import run_tasks
from naxcli.workers.gpu_sharing import measured_slots
from naxcli.workers.pool import WorkerPool, run_trial
from naxcli.workers.task import TrialTask

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmRequest:
    """How a run is confirmed.

    Args:
        num_top: Number of best configurations that are trained again, beside the references.
        num_seeds: Number of fresh trainings of each configuration.
        epochs: Length of each training; None is the run's highest fidelity.
        space: Space of the run, where it does not ship with naxcli. Its file is code, and is run.
        data_root: Folder of the data sets; None is the run's.
        workers: Number of trainings at once, or `auto`.
        seed: Random seed that the fresh seeds are derived from.
        skip_corrupt: Whether image files that cannot be read are left out.
        keeps_checkpoints: Whether the trained networks stay, in the run's folder `confirmed`.
    """

    num_top: int = 3
    num_seeds: int = 5
    epochs: float | None = None
    space: str | None = None
    data_root: str | None = None
    workers: int | str = "auto"
    seed: int = 0
    skip_corrupt: bool = False
    keeps_checkpoints: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A configuration to be confirmed. `search_cost` is the search's own number, None where it has none."""

    name: str
    config: dict[str, Any]
    search_cost: float | None
    is_top: bool

    @property
    def config_id(self) -> str:
        return config_id(self.config)


def confirm(
    run: RunDirectory, request: ConfirmRequest, on_result: Callable[[dict[str, Any], int, int], None]
) -> dict[str, Any]:
    """Return the confirmation of a run, continuing one that was interrupted; also left in confirmation.json.

    Args:
        run: Directory of the run.
        request: How it is confirmed.
        on_result: Called with each training's row, the number that are done, and the number of all.

    Returns:
        What `naxcli confirm --json` prints: `settings`, a row per training in `results`, and the `verdict`.

    Raises:
        NaxcliError: If the run has no success, or its space is not the one named.
    """
    if request.epochs is not None and not 0 < request.epochs < math.inf:
        raise NaxcliError(f"--epochs is {request.epochs:g}", why="it must be above 0")
    space = load_recorded_space(run.settings(), named=request.space)
    if request.keeps_checkpoints and not space.is_trained:
        raise NaxcliError(f"space {space.name!r} trains no networks", hint="leave out --keep-checkpoints")
    candidates, epochs = _question(run, request, space)
    settings = {
        "num_top": request.num_top,
        "num_seeds": request.num_seeds,
        "epochs": epochs,
        "seed": request.seed,
        "config_ids": [candidate.config_id for candidate in candidates],
    }
    stored = run.read_json(run.confirmation_file)
    is_same_question = stored.get("settings") in (None, settings)
    rows: list[dict[str, Any]] = [
        row for row in (stored.get("results", []) if is_same_question else []) if _is_done(run, row, request)
    ]
    seeds = [_fresh_seed(request.seed, number) for number in range(request.num_seeds)]
    done = {(row["config_id"], row["seed"]) for row in rows}
    todo = [(candidate, seed) for seed in seeds for candidate in candidates if (candidate.config_id, seed) not in done]
    with run.locked():
        if not is_same_question:  # its trainings do not answer this one
            run.remove_confirmed()
        for candidate, task, result in _trainings(run, request, space, todo, epochs=epochs):
            rows.append(_row(candidate, task, result))
            _write(run, settings, rows, verdict=None)
            on_result(rows[-1], len(rows), len(seeds) * len(candidates))
        return _write(run, settings, rows, verdict=_verdict(candidates, rows, space, request.seed))


def _is_done(run: RunDirectory, row: dict[str, Any], request: ConfirmRequest) -> bool:
    """Return whether a recorded training need not be done again for its network."""
    is_kept = row["cost"] is None or run.confirmed_checkpoint(row["config_id"], row["seed"]).is_file()
    return is_kept or not request.keeps_checkpoints


def _question(run: RunDirectory, request: ConfirmRequest, space: Space) -> tuple[list[Candidate], float]:
    """Return the configurations to compare and the epochs that each is trained."""
    with Records.open(run) as records:
        finished = records.finished()
        facts = json.loads(records.meta("space") or "{}")
    configuration_space = space.configuration_space()
    for item in finished:
        to_configuration(configuration_space, item.trial.config, what=f"trial {item.trial.trial_id}")
    candidates = _candidates(run, finished, facts, space.default_config(), request.num_top)
    highest = max(item.trial.fidelity for item in finished if item.status == Status.SUCCESS)
    return candidates, request.epochs or highest


def _trainings(
    run: RunDirectory, request: ConfirmRequest, space: Space, todo: list[tuple[Candidate, int]], *, epochs: float
) -> Iterator[tuple[Candidate, TrialTask, Result]]:
    """Train the candidates with their seeds on this machine, and yield each as it ends."""
    if not todo:
        return
    experiment = run.experiment()
    data = data_of_run(run, space, on_test=True, data_root=request.data_root, skip_corrupt=request.skip_corrupt)
    slots = measured_slots(run, workers=request.workers, threads=experiment.threads)
    tasks = (
        TrialTask(
            trial_id=number,
            space=space.origin,
            config=candidate.config,
            fidelity=epochs,
            seed=seed,
            data=data,
            width=experiment.width,
            recipe=experiment.recipe.with_choices(candidate.config) if data else None,
            schedule_epochs=epochs,
            threads=slots[0].threads,
            checkpoint_to=str(run.confirmed_checkpoint(candidate.config_id, seed).resolve())
            if request.keeps_checkpoints
            else None,
            uses_kernels=experiment.uses_kernels,
        )
        for number, (candidate, seed) in enumerate(todo)
    )
    with WorkerPool(run_trial, slots=slots) as pool:
        for task, result in run_tasks(pool, tasks):
            yield todo[task.trial_id][0], task, result


def _candidates(
    run: RunDirectory, finished: list[FinishedTrial], facts: dict[str, Any], default: dict[str, Any], num_top: int
) -> list[Candidate]:
    """Return the best `num_top` at the highest fidelity, then the references that are other configurations than these.

    A reference that is among the best itself has nothing to be compared with by that name.
    """
    standings = ranked(finished)
    if not standings:
        raise NaxcliError(f"{run.path} has no successful trial to confirm", exit_code=ExitCode.FAILED)
    means = {standing.best_result.trial.config_id: standing.mean_cost for standing in standings}
    top = [standing.best_result.trial for standing in standings[:num_top]]
    chosen = [
        Candidate(name=f"top {rank}", config=dict(trial.config), search_cost=means[trial.config_id], is_top=True)
        for rank, trial in enumerate(top, start=1)
    ]
    known = {trial.config_id for trial in top}
    for name, config in {**facts.get("reference", {}), "default": default}.items():
        if config_id(config) not in known:
            known.add(config_id(config))
            cost = means.get(config_id(config))
            chosen.append(Candidate(name=name, config=config, search_cost=cost, is_top=False))
    return chosen


def _fresh_seed(seed: int, number: int) -> int:
    """Return a training seed that no search uses: searches derive theirs from small numbers."""
    digest = hashlib.sha256(f"naxcli confirm {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") | 1 << 30


def _verdict(candidates: list[Candidate], rows: list[dict[str, Any]], space: Space, seed: int) -> dict[str, Any]:
    """Return the analysis of the trainings: gains of the best over the references, corrected for having picked it."""
    costs: dict[str, dict[int, float | None]] = {candidate.name: {} for candidate in candidates}
    for row in rows:
        costs[row["name"]][row["seed"]] = row["cost"]
    found = confirmed_gain(
        costs,
        candidates=[candidate.name for candidate in candidates if candidate.is_top],
        references=[candidate.name for candidate in candidates if not candidate.is_top],
        search_costs={candidate.name: candidate.search_cost for candidate in candidates},
        is_error_rate=space.is_trained,
        seed=seed,
    )
    winner = next((candidate for candidate in candidates if candidate.name == found["winner"]), None)
    return {**found, "config": winner.config if winner else None}


def _row(candidate: Candidate, task: TrialTask, result: Result) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "config_id": candidate.config_id,
        "config": candidate.config,
        "seed": task.seed,
        "search_cost": candidate.search_cost,
        "status": str(result.status),
        "cost": result.cost,
        "seconds": result.seconds,
        "error": result.error,
        "grad_accum_steps": result.grad_accum_steps,
    }


def _write(run: RunDirectory, settings: dict[str, Any], rows: list[dict[str, Any]], verdict: Any) -> dict[str, Any]:
    sentence = None if verdict is None else verdict["sentence"]
    confirmation = {"schema": SCHEMA, "settings": settings, "results": rows, "verdict": verdict, "sentence": sentence}
    write_atomically(run.confirmation_file, json.dumps(confirmation, indent=1))
    return confirmation
