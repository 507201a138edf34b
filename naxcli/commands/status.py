"""What a run looks like from outside: progress, rate, incumbent, time left. Reads the records; never waits for the search."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from naxcli.commands.plan import comparable_settings
from naxcli.commands.progress import Done, seconds_left, trials_per_second
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.history import FinishedTrial
from naxcli.records.incumbent import find_incumbent
from naxcli.records.trial import Status
from naxcli.search.evaluations import EvaluationCount


def describe_run(run: RunDirectory) -> dict[str, Any]:
    """Return the state of a run as plain values: what `naxcli status --json` prints.

    Args:
        run: Directory of the search, which may be running in another process.

    Raises:
        NaxcliError: If its records cannot be read.
    """
    experiment = run.experiment()
    with Records.open(run) as records:
        finished, unfinished = records.finished(), records.running()
        active, counts = records.active_seconds(), records.status_counts()
    incumbent = find_incumbent(finished)
    seconds: dict[float, list[float]] = defaultdict(list)
    for item in finished:
        if item.status == Status.SUCCESS:
            seconds[item.trial.fidelity].append(item.seconds)
    evaluations = EvaluationCount(experiment, finished).finished
    rate = trials_per_second(len(finished), active)
    plan = run.read_json(run.plan_file)
    if plan.get("settings") != comparable_settings(experiment):
        plan = {}  # of another search
    return {
        "run": str(run.path),
        "space": experiment.space,
        "is_running": run.is_locked(),
        "is_accuracy": experiment.data is not None,
        "experiment": experiment.to_settings(),
        "trials": counts,
        "num_finished": len(finished),
        "num_running": len(unfinished),
        "num_cut": sum(item.is_cut for item in finished),
        "rungs": [
            {"fidelity": fidelity, "finished": len(values), "median_seconds": statistics.median(values)}
            for fidelity, values in sorted(seconds.items())
        ],
        "trials_per_hour": None if rate is None else 3600 * rate,
        "active_seconds": active,
        "budget_seconds": experiment.budget_seconds,
        "evaluations": evaluations,
        "seconds_left": seconds_left(
            experiment, Done(num_finished=len(finished), num_evaluations=evaluations, active_seconds=active)
        ),
        "proxy_audit": _proxy_audit(finished) if len(seconds) > 1 else [],
        "plan": _plan_against_reality(plan, active, {fidelity: len(values) for fidelity, values in seconds.items()}),
        "incumbent": None if incumbent is None else incumbent.to_json(),
    }


def _proxy_audit(finished: list[FinishedTrial]) -> list[dict[str, Any]]:
    from naxcli.analysis.audit import rank_agreement

    successes = [item for item in finished if item.status == Status.SUCCESS]
    return rank_agreement(
        [item.trial.config_id for item in successes],
        [item.trial.fidelity for item in successes],
        [item.cost for item in successes],
    )


def _plan_against_reality(plan: dict[str, Any], active: float, done: dict[float, int]) -> list[dict[str, float]] | None:
    """Return, per fidelity, the plan's trials for the time spent so far beside those finished; None without a plan."""
    if not plan:
        return None
    share = min(1.0, active / plan["budget_seconds"])
    return [
        {
            "fidelity": rung["fidelity"],
            "planned": rung["expected"] * share,
            "low": rung["low"] * share,
            "high": rung["high"] * share,
            "finished": done.get(rung["fidelity"], 0),
        }
        for rung in plan["rungs"]
    ]
