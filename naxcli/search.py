"""The search loop: ask, evaluate, record, tell.

Record first: an ask is written with the searcher's state before its trial starts, a result before the searcher is told, so that a
process killed at any instant loses at most its running trials, and those are started again.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import signal
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol

from naxcli.arms import Arms
from naxcli.checkpoints import CheckpointPolicy
from naxcli.errors import ExitCode, NaxcliError
from naxcli.evaluate import DataRequest, TrialTask, result_from_dict
from naxcli.experiment import Experiment
from naxcli.liveness import Liveness
from naxcli.records import OBJECTIVE_COLUMNS, FinishedTrial, Records, objective_costs
from naxcli.run_directory import RunDirectory
from naxcli.space import Space, space_digest
from naxcli.trial import Result, Status, Trial
from naxcli.workers import Finished, WorkerLost, WorkerPool

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

TICK_SECONDS = 0.25
ACTIVITY_INTERVAL_SECONDS = 5.0
BACKUP_INTERVAL_SECONDS = 60.0
MAX_ATTEMPTS = 2
# A search whose first trials all crash has a broken space or data, not bad configurations; one in which so many fail, each in some
# way, has limits or a recipe that nothing meets.
MAX_LEADING_CRASHES = 10
MAX_LEADING_FAILURES = 20
# Beyond its own time-out, which the trial itself looks at once an epoch, before its process is killed.
TIMEOUT_GRACE_SECONDS = 30.0


class EndReason(StrEnum):
    """Why a search ended."""

    TRIALS = "trials"
    BUDGET = "budget"
    EXHAUSTED = "exhausted"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incumbent:
    """The best configuration so far: lowest mean cost at the highest fidelity, among those with the most seeds there."""

    trial: Trial
    cost: float
    num_seeds: int

    def to_json(self) -> dict[str, Any]:
        return {
            "config": dict(self.trial.config), "cost": self.cost, "fidelity": self.trial.fidelity, "num_seeds": self.num_seeds,
            "config_id": self.trial.config_id, "trial_id": self.trial.trial_id,
        }  # fmt: skip


class Progress(Protocol):
    """What watches a search: the live display, plain lines, or nothing."""

    def started(self, search: Search) -> None: ...
    def asked(self, trial: Trial) -> None: ...
    def epoch(self, message: Mapping[str, Any]) -> None: ...
    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None: ...
    def notice(self, text: str) -> None: ...
    def tick(self) -> None: ...


def find_incumbent(finished: list[FinishedTrial]) -> Incumbent | None:
    """Return the best configuration among finished trials, or None without a success."""
    successes = [item for item in finished if item.status == Status.SUCCESS and item.cost is not None]
    if not successes:
        return None
    highest = max(item.trial.fidelity for item in successes)
    by_config: dict[str, list[FinishedTrial]] = defaultdict(list)
    for item in successes:
        if item.trial.fidelity == highest:
            by_config[item.trial.config_id].append(item)
    most_seeds = max(len(items) for items in by_config.values())
    candidates = [items for items in by_config.values() if len(items) == most_seeds]
    best = min(candidates, key=_mean_cost)
    first = min(best, key=lambda item: item.cost or 0.0)
    return Incumbent(trial=first.trial, cost=_mean_cost(best), num_seeds=len({item.trial.seed for item in best}))


def _mean_cost(items: list[FinishedTrial]) -> float:
    return statistics.fmean(item.cost for item in items if item.cost is not None)


class Search:
    """One session of a search, from its records on. `run` is the loop; the rest is one policy a method."""

    def __init__(
        self,
        *,
        experiment: Experiment,
        space: Space,
        configuration_space: ConfigurationSpace,
        run: RunDirectory,
        records: Records,
        arms: Arms,
        pool: WorkerPool,
        progress: Progress,
        data: DataRequest | None,
        threads: int,
    ) -> None:
        self.experiment = experiment
        self.space = space
        self.run_directory = run
        self.records = records
        self.finished: list[FinishedTrial] = records.finished()
        self.incumbent = find_incumbent(self.finished)
        self.active_seconds_before = records.active_seconds()
        self._configuration_space = configuration_space
        self._space_digest = space_digest(space)
        self._arms = arms
        self._pool = pool
        self._progress = progress
        self._data = data
        self._threads = threads
        self._checkpoints = CheckpointPolicy(run=run, fidelity=experiment.fidelity, finished=self.finished)
        self._running: dict[int, Trial] = {}
        self._liveness = Liveness(
            gives_signs=space.build is not None, ended=((item.trial, item.seconds) for item in self.finished)
        )
        self._waiting = records.running()
        self._attempts: dict[int, int] = {trial.trial_id: attempts for trial, attempts in self._waiting}
        self._signal: EndReason | None = None
        self.was_terminated = False  # by SIGTERM, as a cluster sends it, rather than Ctrl-C
        self._clock_start = time.monotonic()
        self._log_lock = threading.Lock()

    # -- the loop -----------------------------------------------------------------------------------------------------------

    def run(self) -> EndReason:
        """Search until the budget, the number of trials or the space is spent, or somebody stops it."""
        session = self.records.start_session()
        self._clock_start = time.monotonic()
        self._log(
            "started", session=session, finished=len(self.finished), resubmitted=len(self._waiting),
            fidelity=str(self.experiment.fidelity), rung_schedule=self.experiment.rung_schedule,
        )  # fmt: skip
        self._progress.started(self)
        restore = self._catch_signals()
        self.records.back_up()
        beat, backup = Every(ACTIVITY_INTERVAL_SECONDS), Every(BACKUP_INTERVAL_SECONDS)
        try:
            while True:
                reason = self.reason_to_stop()
                if reason is EndReason.INTERRUPTED:
                    break
                if reason is None:
                    reason = self._start_trials()
                if reason is not None and not self._pool.num_running:
                    break
                for finished in self._pool.wait(TICK_SECONDS):
                    self._take(finished)
                self._end_overdue_trials()
                if beat.is_due():
                    self.records.set_active_seconds(session, self._session_seconds())
                if backup.is_due():
                    self.records.back_up()
                self.records.write_parquet_if_due(self.run_directory, self._configuration_space)
                self._progress.tick()
        finally:
            restore()
            self.records.set_active_seconds(session, self._session_seconds())
            self.records.write_parquet(self.run_directory, self._configuration_space)
        self._log("ended", reason=str(reason), finished=len(self.finished))
        return reason

    def reason_to_stop(self) -> EndReason | None:
        """Return why no further trial may start, or None."""
        if self._signal is not None:
            return self._signal
        if self.run_directory.stop_file.exists():
            return EndReason.STOPPED
        limit = self.experiment.trials
        if limit is not None and len(self.finished) + len(self._running) >= limit:
            return EndReason.TRIALS
        budget = self.experiment.budget_seconds
        if budget is not None and self.active_seconds() + self._expected_seconds() > budget:
            return EndReason.BUDGET
        return None

    def active_seconds(self) -> float:
        """Return the time spent searching, over all sessions; a time between sessions does not count."""
        return self.active_seconds_before + self._session_seconds()

    @property
    def running(self) -> Mapping[int, Trial]:
        return self._running

    @property
    def capacity(self) -> int:
        return self._pool.capacity

    # -- ask ----------------------------------------------------------------------------------------------------------------

    def _start_trials(self) -> EndReason | None:
        """Fill the free workers; return why nothing more can be asked, if so."""
        while (worker := self._pool.free_worker()) is not None:
            if self._waiting:
                trial, _ = self._waiting.pop(0)
            else:
                if (reason := self.reason_to_stop()) is not None:
                    return reason
                asked = self._ask()
                if asked is None:
                    is_over = self._arms.is_exhausted and not self._running
                    return EndReason.EXHAUSTED if is_over else None
                trial = asked
            self._submit(trial, worker)
        return None

    def _ask(self) -> Trial | None:
        asked = self._arms.ask()
        if asked is None:
            return None
        searcher, suggestion = asked
        parent = self._checkpoints.parent_of(suggestion)
        trial = self.records.add_trial(
            suggestion, searcher=searcher, state=self._arms.state(searcher), parent_trial_id=parent
        )
        self._progress.asked(trial)
        return trial

    # -- evaluate -----------------------------------------------------------------------------------------------------------

    def _submit(self, trial: Trial, worker: str) -> None:
        self._running[trial.trial_id] = trial
        self._liveness.started(trial)
        self._pool.submit(trial.trial_id, self._task(trial).to_dict(), worker=worker)

    def _task(self, trial: Trial) -> TrialTask:
        experiment = self.experiment
        if self.space.build is None:
            return TrialTask(
                trial_id=trial.trial_id, space=self.space.origin, config=trial.config, fidelity=trial.fidelity, seed=trial.seed,
                seconds_limit=experiment.trial_timeout_seconds, space_digest=self._space_digest,
                max_latency_ms=experiment.limits.max_latency_ms,
                needed_measures=tuple(OBJECTIVE_COLUMNS[name] for name in experiment.objective),
            )  # fmt: skip
        parent = trial.parent_trial_id
        parent_file = None if parent is None else self.run_directory.checkpoint(parent).resolve()
        return TrialTask(
            trial_id=trial.trial_id, space=self.space.origin, config=trial.config, fidelity=trial.fidelity, seed=trial.seed,
            data=self._data, width=experiment.width, recipe=experiment.trial_recipe, schedule_epochs=experiment.fidelity.max,
            threads=self._threads, measure_latency="latency_ms" in experiment.objective,
            max_latency_ms=experiment.limits.max_latency_ms,
            checkpoint_from=str(parent_file) if parent_file is not None and parent_file.exists() else None,
            checkpoint_to=str(self.run_directory.checkpoint(trial.trial_id).resolve()),
            keep_if_cost_below=self._checkpoints.keep_if_cost_below(trial), seconds_limit=experiment.trial_timeout_seconds,
            space_digest=self._space_digest,
        )  # fmt: skip

    def heard(self, message: Mapping[str, Any]) -> None:
        """Note a sign of life of a running trial. Called from the pool's own thread."""
        if message.get("has_begun"):
            self._liveness.begun(int(message["trial_id"]))
            return
        seconds = message.get("seconds")  # of an epoch that has ended; None of a step
        self._liveness.heard(int(message["trial_id"]), epoch_seconds=seconds)
        if seconds is not None:
            self._progress.epoch(message)

    def _end_overdue_trials(self) -> None:
        """Kill trials that run past their time-out or fell silent; a killed worker is replaced by its nanny."""
        timeout = self.experiment.trial_timeout_seconds
        for trial_id, trial in list(self._running.items()):
            seconds = self._liveness.seconds(trial)
            if timeout is not None and self._liveness.is_over(trial, timeout + TIMEOUT_GRACE_SECONDS):
                self._pool.kill(trial_id)
                error = f"killed after {seconds:.0f} s, limit {timeout:g} s"
                self._record(trial_id, Result(status=Status.TIMEOUT, error=error, seconds=seconds))
            elif (silence := self._liveness.silence_of_hanging(trial)) is not None:
                self._pool.kill(trial_id)
                self._retry_or_record(trial_id, f"no sign of life for {silence:.0f} s")

    # -- record, tell -------------------------------------------------------------------------------------------------------

    def _take(self, finished: Finished) -> None:
        if isinstance(finished.outcome, WorkerLost) and self._signal is not None:
            # A cluster, or `timeout`, ends search and workers with the same signal: the trial is not to blame, and runs again.
            del self._running[finished.task_id]
        elif isinstance(finished.outcome, WorkerLost):
            self._retry_or_record(finished.task_id, finished.outcome.reason)
        elif isinstance(finished.outcome, BaseException):
            raise finished.outcome
        else:
            self._record(finished.task_id, result_from_dict(finished.outcome))

    def _retry_or_record(self, trial_id: int, reason: str) -> None:
        """Try a trial that was lost with its worker once more; then it counts as crashed."""
        attempts = self._attempts.get(trial_id, 0) + 1
        self._attempts[trial_id] = attempts
        self._log("worker_lost", trial_id=trial_id, reason=reason, attempt=attempts)
        if attempts < MAX_ATTEMPTS:
            self.records.add_attempt(trial_id)
            self._progress.notice(f"trial {trial_id} lost its worker ({reason}); trying it once more")
            self._waiting.append((self._running.pop(trial_id), attempts))
        else:
            seconds = self._liveness.seconds(self._running[trial_id])
            self._record(trial_id, Result(status=Status.CRASHED, error=f"{reason}, {attempts} times", seconds=seconds))

    def _record(self, trial_id: int, result: Result) -> None:
        trial = self._running.pop(trial_id)
        self._liveness.ended(trial, result.seconds)
        if result.ended_at is None:
            now = time.time()
            result = dataclasses.replace(result, started_at=now - result.seconds, ended_at=now)
        self.records.add_result(trial_id, result)
        cost = result.cost if result.status == Status.SUCCESS else None
        measured = [getattr(result, OBJECTIVE_COLUMNS[name]) for name in self.experiment.objective]
        self._arms.tell(trial, cost=objective_costs(cost, measured))
        self.finished.append(FinishedTrial(trial=trial, status=result.status, cost=cost, seconds=result.seconds))
        self.incumbent = self._better(self.finished[-1])
        self._checkpoints.finished(self.finished[-1], incumbent=self.incumbent)
        self._log("finished", trial_id=trial_id, status=str(result.status), cost=cost, seconds=result.seconds)
        self._progress.finished(trial, result, self.incumbent)
        self._refuse_only_failures(result)

    def _better(self, last: FinishedTrial) -> Incumbent | None:
        """Return the incumbent after one more result; only a repeated configuration needs the whole history."""
        if last.cost is None:
            return self.incumbent
        current = self.incumbent
        is_new = sum(item.trial.config_id == last.trial.config_id for item in self.finished) == 1
        if current is None or not is_new or current.num_seeds > 1 or last.trial.fidelity > current.trial.fidelity:
            return find_incumbent(self.finished)
        if last.trial.fidelity == current.trial.fidelity and last.cost < current.cost:
            return Incumbent(trial=last.trial, cost=last.cost, num_seeds=1)
        return current

    def _refuse_only_failures(self, result: Result) -> None:
        """Stop a search whose first trials all failed; who resumes it insists."""
        counts = Counter(item.status for item in self.finished[: MAX_LEADING_FAILURES + 1])
        if counts.total() not in (MAX_LEADING_CRASHES, MAX_LEADING_FAILURES) or counts[Status.SUCCESS]:
            return
        only_crashes = counts.total() == counts[Status.CRASHED]
        if not only_crashes and counts.total() == MAX_LEADING_CRASHES:
            return
        lines = [line for line in (result.error or "").splitlines() if line.strip()]
        ended = ", ".join(f"{number} {status}" for status, number in counts.items())
        raise NaxcliError(
            f"the first {counts.total()} trials all {'crashed' if only_crashes else f'failed: {ended}'}",
            why=lines[-1].strip() if lines else "",
            hint=f"naxcli space validate {shlex.quote(self.space.origin)} says what is wrong with a space; "
            "the run's `error` column has every reason",
            exit_code=ExitCode.FAILED,
        )

    # -- time and signals ---------------------------------------------------------------------------------------------------

    def _session_seconds(self) -> float:
        return time.monotonic() - self._clock_start

    def _expected_seconds(self) -> float:
        """Return the shortest time of the last trials: one that could not end within the budget is not started."""
        return min((item.seconds for item in self.finished[-50:] if item.status == Status.SUCCESS), default=0.0)

    def _catch_signals(self) -> Callable[[], None]:
        """Turn Ctrl-C and SIGTERM into a reason to stop, so that no write is cut in two; return the undo."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None

        def note(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGINT and self._signal is EndReason.INTERRUPTED:
                raise KeyboardInterrupt
            self._signal = EndReason.INTERRUPTED
            self.was_terminated = number == signal.SIGTERM

        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in previous.items():
                signal.signal(number, handler)

        return restore

    def _log(self, event: str, **values: Any) -> None:
        line = json.dumps({"at": time.time(), "event": event, **values})
        with self._log_lock, self.run_directory.log_file.open("a", encoding="utf-8") as handle:
            handle.write(line + "\n")


class Every:
    """A clock that is due once per interval."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._next = time.monotonic() + seconds

    def is_due(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + self._seconds
        return True
