"""How far a search is on its way to its end, from what it has done so far."""

from __future__ import annotations

from naxcli.settings.experiment import Experiment


def trials_per_second(num_finished: int, active_seconds: float) -> float | None:
    """Return the rate of a search over all its active time, None before its first trial has ended."""
    return num_finished / active_seconds if num_finished and active_seconds > 0 else None


def share_done(experiment: Experiment, *, num_finished: int, active_seconds: float) -> float:
    """Return the share of the goal that is reached, from 0 to 1; of time and trials, whichever is nearer to its end."""
    shares = [0.0]
    if experiment.budget_seconds is not None:
        shares.append(active_seconds / experiment.budget_seconds)
    if experiment.trials is not None:
        shares.append(num_finished / experiment.trials)
    return min(1.0, max(shares))


def seconds_left(experiment: Experiment, *, num_finished: int, active_seconds: float) -> float | None:
    """Return the seconds until the search ends, by time or by trials at the rate so far; None where nothing tells."""
    lefts = []
    if experiment.budget_seconds is not None:
        lefts.append(max(0.0, experiment.budget_seconds - active_seconds))
    rate = trials_per_second(num_finished, active_seconds)
    if experiment.trials is not None and rate:
        lefts.append(max(0.0, (experiment.trials - num_finished) / rate))
    return min(lefts) if lefts else None


def format_score(cost: float, *, is_accuracy: bool) -> str:
    """Return a cost as the accuracy that it stands for, where networks are trained, or as it is."""
    return f"{100 * (1 - cost):.2f} % accuracy" if is_accuracy else f"cost {cost:.6g}"
