"""A plan: what a budget buys, from a short calibration, before it is spent.

A few random configurations are trained for one epoch; each gives a fixed cost and seconds per epoch. The search is then simulated
with its own fidelity schedule and with times drawn from these measurements; repeating that with resampled measurements gives the interval.
An objective of a space's own has no epochs to look into: its time is taken to be in proportion to the fidelity.

The calibration's share of the budget runs from when its first trial begins: workers start once, for a search as for its plan.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import math
import os
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from naxcli.commands.search_data import prepare_data
from naxcli.commands.session import Session
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.files import guard_disk, write_atomically
from naxcli.records.trial import Result, Status, config_id
from naxcli.search_space.enumeration import count_configurations
from naxcli.settings.experiment import Experiment
from naxcli.settings.units import format_duration
from naxcli.workers.batch import run_tasks
from naxcli.workers.gpu_sharing import slots_of_run
from naxcli.workers.pool import WorkerPool, run_trial
from naxcli.workers.slots import Slot
from naxcli.workers.task import DataRequest, TrialTask

MAX_CALIBRATION_SHARE = 0.05
NUM_CALIBRATION_TRIALS = 12
NUM_SIMULATIONS = 40
# Fewer timed trials than these show no spread between configurations by themselves: times are then taken to vary by half.
MIN_RESAMPLED = 5
PRIOR_SPREAD = 0.5
TIMED_SETTINGS = (
    "space",
    "data",
    "image_size",
    "width",
    "recipe",
    "fidelity",
    "rung_schedule",
    "workers",
    "threads",
    "cluster",
)
# Simulated trials after which the rest of the budget is extrapolated in proportion.
MAX_SIMULATED_TRIALS = 600


class Share:
    """The time that the calibration may take, from when its first trial begins."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._opened_at = time.monotonic()
        self._began_at: float | None = None

    def hear(self, message: Mapping[str, Any]) -> None:
        """Note the first trial that begins. Called from the pool's own thread."""
        if message.get("has_begun") and self._began_at is None:
            self._began_at = time.monotonic()

    @property
    def start_seconds(self) -> float:
        """How long the workers took to start."""
        return (self._began_at or time.monotonic()) - self._opened_at

    @property
    def spent(self) -> float:
        return 0.0 if self._began_at is None else time.monotonic() - self._began_at

    @property
    def left(self) -> float:
        return max(0.0, self.seconds - self.spent)

    def is_spent(self) -> bool:
        return self.left == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What the calibration saw: the times of trials that succeeded, how all ended, and the last error.

    `seconds` runs from when the first trial began; `start_seconds` is the time before.
    """

    times: list[TrialTime]
    statuses: Counter[Status]
    last_error: str
    seconds: float
    start_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTime:
    """What one calibration trial cost: a fixed part, with what passes before the next one, and a part for each epoch, in seconds."""

    fixed_seconds: float
    epoch_seconds: float

    def seconds(self, epochs: float) -> float:
        return self.fixed_seconds + epochs * self.epoch_seconds

    def scaled(self, factor: float) -> TrialTime:
        return TrialTime(fixed_seconds=factor * self.fixed_seconds, epoch_seconds=factor * self.epoch_seconds)


def comparable_settings(experiment: Experiment) -> dict[str, Any]:
    """Return the settings on which the time of trials depends: a plan says something about searches that agree in them."""
    settings = json.loads(json.dumps(experiment.to_settings(), default=str))
    return {name: settings.get(name) for name in TIMED_SETTINGS}


def plan_search(
    session: Session, on_result: Callable[[Result], None], on_notice: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Return what the budget of a search buys: trials per fidelity with a 95 % interval; also left in the run as plan.json.

    Args:
        session: The search that is planned, of `open_session`.
        on_result: Called with the result of each trial of the calibration.
        on_notice: Called with what the user should know of the workers.

    Returns:
        What `naxcli plan --json` prints: `rungs` (fidelity, expected, low, high), the times that were measured, `is_enough`, and
        `advice` where it is not.

    Raises:
        NaxcliError: If there is no budget, or no trial could be timed within the calibration's share of it.
    """
    experiment, space = session.experiment, session.space
    budget = experiment.budget_seconds
    if budget is None:
        raise NaxcliError("a plan needs a budget", hint="naxcli plan --budget 3d")
    with guard_disk(session.run.path):  # before anything is trained
        session.run.path.mkdir(parents=True, exist_ok=True)
    if not os.access(session.run.path, os.W_OK):
        raise NaxcliError(f"{session.run.path} cannot be written", hint="--run DIR names another folder")
    data, _, _ = prepare_data(experiment, space)
    slots = slots_of_run(experiment, space, data, session.run, on_notice)
    share = Share(MAX_CALIBRATION_SHARE * budget)
    calibration = _calibrate(session, data, slots, share, on_result=on_result, on_notice=on_notice)
    times, statuses = calibration.times, calibration.statuses
    if not times:
        raise _nothing_timed(session, calibration)
    success_share = statuses[Status.SUCCESS] / max(1, statuses.total())
    counted = count_configurations(space.configuration_space())
    num_configs = math.inf if counted is None else counted
    repeats = experiment.repeats
    rungs = _expected_trials(
        session,
        times,
        seconds=budget - calibration.seconds,
        num_workers=len(slots),
        success_share=success_share,
        max_trials=repeats * num_configs,
    )
    num_hyperparameters = len(space.configuration_space())
    enough = repeats * min(num_hyperparameters, num_configs)
    plan: dict[str, Any] = {
        "schema": 1,
        "budget_seconds": budget,
        "workers": len(slots),
        "calibration_seconds": calibration.seconds,
        "start_seconds": calibration.start_seconds,
        "calibration_trials": len(times),
        "fixed_seconds": statistics.median(item.fixed_seconds for item in times),
        "epoch_seconds": statistics.median(item.epoch_seconds for item in times),
        "rungs": rungs,
        "num_hyperparameters": num_hyperparameters,
        "objectives": ["cost", *experiment.objective],
    }
    plan["settings"] = comparable_settings(experiment)
    plan["is_enough"] = rungs[0]["expected"] >= enough and rungs[-1]["expected"] >= 1
    plan["advice"] = [] if plan["is_enough"] else ways_to_more_trials(session)
    write_atomically(session.run.plan_file, json.dumps(plan, indent=1))
    return plan


def ways_to_more_trials(session: Session) -> list[str]:
    """Return what gives a search more trials, each as the settings would have to become."""
    experiment = session.experiment
    fidelity = experiment.fidelity
    ways = ["a larger --budget"]
    if not fidelity.is_single:
        *lower, highest = fidelity.rungs()[:-1]
        flags = f"--fidelity {fidelity.min:g}:{highest:g}:{fidelity.eta}" if lower else f"--epochs {highest:g}"
        ways.append(f"a lower highest fidelity ({flags})")
    elif fidelity.max >= 2:
        ways.append(
            f"{'fewer epochs' if session.space.is_trained else 'a lower fidelity'} (--epochs {fidelity.max // 2:g})"
        )
    if session.space.is_trained:
        ways.append(f"narrower networks (--set width={experiment.width / 2:.2g})")
    return ways


def _nothing_timed(session: Session, calibration: Calibration) -> NaxcliError:
    ended = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in calibration.statuses.items())
    if not ended:
        share = format_duration(MAX_CALIBRATION_SHARE * (session.experiment.budget_seconds or 0.0))
        return NaxcliError(
            "this budget is too little to time a single trial",
            why=f"a plan takes {MAX_CALIBRATION_SHARE:.0%} of the budget, {share}, and no trial ended in that time",
            hint=f"give {' or '.join(ways_to_more_trials(session))}",
            exit_code=ExitCode.PLAN_INFEASIBLE,
        )
    return NaxcliError(
        "no trial could be timed: none succeeded",
        why=f"{ended}; the last one: {calibration.last_error}",
        hint=f"naxcli space validate {shlex.quote(session.space.origin)} looks for what is wrong with a space",
        exit_code=ExitCode.PLAN_INFEASIBLE,
    )


def _calibrate(
    session: Session,
    data: DataRequest | None,
    slots: list[Slot],
    share: Share,
    *,
    on_result: Callable[[Result], None],
    on_notice: Callable[[str], None],
) -> Calibration:
    """Time random configurations at one epoch (or the lowest fidelity) until enough are timed or the share is spent."""
    from naxcli.search_space.contract import plain_config

    experiment, space = session.experiment, session.space
    epochs = calibration_fidelity(session)
    sampled = space.configuration_space(experiment.seed).sample_configuration(NUM_CALIBRATION_TRIALS)
    configs = [space.default_config(), *(space.canonicalise(plain_config(item)) for item in sampled)]

    def tasks() -> Iterator[TrialTask]:
        for number, config in enumerate(configs[:NUM_CALIBRATION_TRIALS]):
            if share.is_spent():
                return
            yield TrialTask(
                trial_id=number,
                space=space.origin,
                config=config,
                fidelity=epochs,
                seed=experiment.seed,
                data=data,
                width=experiment.width,
                recipe=experiment.recipe.with_choices(config) if data else None,
                schedule_epochs=epochs,
                threads=slots[0].threads,
                uses_kernels=experiment.uses_kernels,
                tells_beginning=True,
                measure_latency="latency_ms" in experiment.objective,
            )

    times, statuses, last_error = [], Counter[Status](), ""
    ends: dict[str | None, float] = {}  # of each worker's last trial
    pauses: list[float] = []
    with WorkerPool(
        run_trial,
        slots=slots,
        cluster=experiment.connection,
        shared_folder=session.run.path,
        on_notice=on_notice,
        on_heartbeat=share.hear,
    ) as pool:
        for _, result in run_tasks(pool, tasks(), should_stop=share.is_spent):
            statuses[result.status] += 1
            on_result(result)
            if result.started_at is not None and result.ended_at is not None:
                if (last := ends.get(result.worker)) is not None:
                    pauses.append(max(0.0, result.started_at - last))
                ends[result.worker] = result.ended_at
            if result.status != Status.SUCCESS:
                last_error = result.reason or last_error
                continue
            in_epochs = sum(epoch.seconds for epoch in result.curve) if result.curve else result.seconds
            fixed = max(0.0, result.seconds - in_epochs)
            times.append(TrialTime(fixed_seconds=fixed, epoch_seconds=in_epochs / epochs))
        spent, start_seconds = share.spent, share.start_seconds
    pause = statistics.median(pauses) if pauses else 0.0
    times = [dataclasses.replace(item, fixed_seconds=item.fixed_seconds + pause) for item in times]
    return Calibration(
        times=times,
        statuses=statuses,
        last_error=last_error,
        seconds=spent,
        start_seconds=start_seconds,
    )


def calibration_fidelity(session: Session) -> float:
    """Return the fidelity that the calibration's trials have: one epoch, or the lowest of an objective of a space's own."""
    lowest = session.experiment.fidelity.min
    return min(1.0, lowest) if session.space.is_trained else lowest


def _expected_trials(
    session: Session,
    times: list[TrialTime],
    *,
    seconds: float,
    num_workers: int,
    success_share: float,
    max_trials: float,
) -> list[dict[str, float]]:
    fidelity = session.experiment.fidelity
    rng = np.random.default_rng(session.experiment.seed)
    counts: list[Counter[float]] = []
    spread = PRIOR_SPREAD / len(times) ** 0.5 if len(times) < MIN_RESAMPLED else 0.0
    for _ in range(NUM_SIMULATIONS):
        factor = math.exp(spread * rng.standard_normal())
        resampled = [times[index].scaled(factor) for index in rng.integers(len(times), size=len(times))]
        if fidelity.is_single:
            seconds_each = np.array([item.seconds(fidelity.max) for item in resampled])
            num_trials = _simulate_single(seconds_each, seconds, num_workers, rng)
            counts.append(Counter({fidelity.max: int(min(max_trials, num_trials))}))
            continue
        counts.append(
            _simulate(
                session, resampled, seconds=seconds, num_workers=num_workers, success_share=success_share, rng=rng
            )
        )
    rungs = []
    for rung in fidelity.rungs():
        values = [count[rung] for count in counts]
        low, high = np.quantile(values, [0.025, 0.975])
        rungs.append({"fidelity": rung, "expected": float(np.mean(values)), "low": float(low), "high": float(high)})
    return rungs


def _simulate_single(times: npt.NDArray[np.float64], seconds: float, num_workers: int, rng: np.random.Generator) -> int:
    """Return the trials of one simulated search at a single fidelity: each worker takes one drawn time after another."""
    drawn = rng.choice(times, (num_workers, MAX_SIMULATED_TRIALS))
    ends = np.cumsum(drawn, axis=1)
    is_in_time = ends <= seconds
    rates = np.where(is_in_time[:, -1], MAX_SIMULATED_TRIALS * seconds / ends[:, -1], is_in_time.sum(axis=1))
    return round(float(rates.sum()))


def _simulate(
    session: Session,
    times: list[TrialTime],
    *,
    seconds: float,
    num_workers: int,
    success_share: float,
    rng: np.random.Generator,
) -> Counter[float]:
    """Return the trials per fidelity of one simulated search: the real schedule, random configurations, drawn times and costs."""
    from naxcli.searchers.asktell import AskTell
    from naxcli.searchers.candidates import Candidates
    from naxcli.searchers.hyperband import Hyperband
    from naxcli.searchers.random import RandomProposer

    space, experiment = session.space, session.experiment
    fidelity = experiment.fidelity
    candidates = Candidates(
        space=space, configuration_space=space.configuration_space(experiment.seed), is_feasible=None
    )
    schedule = AskTell(
        name="simulation",
        proposer=RandomProposer(),
        candidates=candidates,
        seed=experiment.seed,
        max_in_flight=num_workers,
        schedule=Hyperband(fidelity, experiment.promotion),
    )
    time_of: dict[str, TrialTime] = {}
    reached: dict[str, float] = {}
    busy: list[tuple[float, int, Any]] = []
    counts: Counter[float] = Counter()
    now, number = 0.0, 0
    while True:
        while len(busy) < num_workers and (suggestion := schedule.ask()) is not None:
            key = config_id(suggestion.config)
            chosen = time_of.setdefault(key, times[int(rng.integers(len(times)))])
            # A promoted trial continues its checkpoint.
            share = experiment.continued_share(suggestion.config)
            takes = chosen.seconds(suggestion.fidelity - share * reached.get(key, 0.0))
            reached[key] = suggestion.fidelity
            heapq.heappush(busy, (now + takes, number, suggestion))
            number += 1
        if not busy:
            return counts
        now, _, suggestion = heapq.heappop(busy)
        if now > seconds:
            return counts
        counts[suggestion.fidelity] += 1
        schedule.tell(suggestion, cost=float(rng.random()) if rng.random() < success_share else None)
        if counts.total() >= MAX_SIMULATED_TRIALS:
            factor = seconds / now
            return Counter({fidelity: round(count * factor) for fidelity, count in counts.items()})
