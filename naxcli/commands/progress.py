"""How far a search is on its way to its end, from what it has done so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naxcli.settings.experiment import Experiment

if TYPE_CHECKING:
    from naxcli.search.loop import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a search has done: finished trials, what they cost in full evaluations, and the time that it was active."""

    num_finished: int
    num_evaluations: float
    active_seconds: float


def done_by(search: Search) -> Done:
    """Return what a search of this process has done so far."""
    return Done(
        num_finished=len(search.finished),
        num_evaluations=search.evaluations.finished,
        active_seconds=search.active_seconds(),
    )


def trials_per_second(num_finished: int, active_seconds: float) -> float | None:
    """Return the rate of a search over all its active time, None before its first trial has ended."""
    return num_finished / active_seconds if num_finished and active_seconds > 0 else None


def share_done(experiment: Experiment, done: Done) -> float:
    """Return the share of the goal that is reached, from 0 to 1; of time, trials and evaluations, whichever is nearest to its end."""
    shares = [0.0]
    if experiment.budget_seconds is not None:
        shares.append(done.active_seconds / experiment.budget_seconds)
    if experiment.trials is not None:
        shares.append(done.num_finished / experiment.trials)
    if experiment.budget_evaluations is not None:
        shares.append(done.num_evaluations / experiment.budget_evaluations)
    return min(1.0, max(shares))


def seconds_left(experiment: Experiment, done: Done) -> float | None:
    """Return the seconds until the search ends, by time, or by trials or evaluations at the rate so far; None where nothing tells."""
    lefts = []
    if experiment.budget_seconds is not None:
        lefts.append(max(0.0, experiment.budget_seconds - done.active_seconds))
    rate = trials_per_second(done.num_finished, done.active_seconds)
    if experiment.trials is not None and rate:
        lefts.append(max(0.0, (experiment.trials - done.num_finished) / rate))
    if experiment.budget_evaluations is not None and done.num_evaluations and done.active_seconds > 0:
        left = max(0.0, experiment.budget_evaluations - done.num_evaluations)
        lefts.append(left * done.active_seconds / done.num_evaluations)
    return min(lefts) if lefts else None


def format_score(cost: float, *, is_accuracy: bool) -> str:
    """Return a cost as the accuracy that it stands for, where networks are trained, or as it is."""
    return f"{100 * (1 - cost):.2f} % accuracy" if is_accuracy else f"cost {cost:.6g}"
