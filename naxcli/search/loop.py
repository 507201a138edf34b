"""The search loop: ask, evaluate, record, tell.

Record first: an ask is written with the searcher's state before its trial starts, a result before the searcher is told, so that a
process killed at any instant loses at most its running trials, and those are started again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import shlex
import time
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.history import OBJECTIVE_COLUMNS, FinishedTrial, objective_costs
from naxcli.records.incumbent import Incumbent, Leaderboard
from naxcli.records.trial import Result, Status, Trial
from naxcli.search.baseline import MixedSearcher
from naxcli.search.early_stopping import EarlyStopping
from naxcli.search.evaluations import EvaluationCount
from naxcli.search.pace import Pace
from naxcli.search.retention import CheckpointPolicy
from naxcli.search.watchdog import Watchdog
from naxcli.search_space.contract import Space, space_digest
from naxcli.searchers.forecast import Forecast
from naxcli.settings.experiment import Experiment
from naxcli.workers.evaluate import error_text, failure
from naxcli.workers.pool import BATCH, Finished, WorkerLost, WorkerPool
from naxcli.workers.shutdown import Interruption
from naxcli.workers.task import DataRequest, TrialTask, result_from_dict

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
# Of trials that are handed over together.
BATCH_SECONDS = 0.1
MAX_BATCH = 32
TINY_SECONDS = 1e-6
TINY_EVALUATIONS = 1e-6  # by which a sum of shares may miss a whole number
# Beyond its own time-out, before its process is killed: a training looks at the clock once an epoch, an objective of a space's own
# when it returns.
TIMEOUT_GRACE_SECONDS = 30.0
OBJECTIVE_GRACE_SECONDS = 1.0


class EndReason(StrEnum):
    """Why a search ended."""

    TRIALS = "trials"
    BUDGET = "budget"
    EVALUATIONS = "evaluations"
    EXHAUSTED = "exhausted"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


class Progress(Protocol):
    """What watches a search: the live display, plain lines, or nothing."""

    def preparing(self, text: str) -> None: ...  # what is done before the search starts
    def started(self, search: Search) -> None: ...
    def asked(self, trial: Trial) -> None: ...
    def epoch(self, message: Mapping[str, Any]) -> None: ...
    def finished(self, trial: Trial, result: Result, incumbent: Incumbent | None) -> None: ...
    def notice(self, text: str) -> None: ...
    def tick(self) -> None: ...


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
        searcher: MixedSearcher,
        pool: WorkerPool,
        progress: Progress,
        interruption: Interruption,
        data: DataRequest | None,
        threads: int,
    ) -> None:
        self.experiment = experiment
        self.space = space
        self.run_directory = run
        self.records = records
        self.finished: list[FinishedTrial] = records.finished()
        self.status_counts = Counter(item.status for item in self.finished)
        self._leaderboard = Leaderboard(self.finished)
        self._pace = Pace(self.finished)
        self.incumbent = self._leaderboard.incumbent
        self.active_seconds_before = records.active_seconds()
        self._configuration_space = configuration_space
        self._space_digest = space_digest(space)
        self._searcher = searcher
        self._pool = pool
        self._progress = progress
        self._interruption = interruption
        self._data = data
        self._threads = threads
        self._checkpoints = CheckpointPolicy(
            run=run,
            fidelity=experiment.fidelity,
            finished=self.finished,
            incumbent=self.incumbent,
            repeats=experiment.repeats,
        )
        self._running: dict[int, Trial] = {}
        self._batches: dict[int, list[int]] = {}  # task of the pool, named by its first trial -> its trials
        self._watchdog = Watchdog(
            sends_heartbeats=space.is_trained, ended=((item.trial, item.seconds) for item in self.finished)
        )
        unfinished = records.running()
        self.evaluations = EvaluationCount(experiment, self.finished, (item.trial for item in unfinished))
        self._attempts = {item.trial.trial_id: item.attempts for item in unfinished}
        self._crowded_out: list[Trial] = []  # wait for a GPU of their own
        self._had_own_device: set[int] = set()
        self._waiting = [item.trial for item in unfinished if item.attempts < MAX_ATTEMPTS]
        self._given_up = [item for item in unfinished if item.attempts >= MAX_ATTEMPTS]
        self._notices: set[str] = set()  # that were said
        self._stopping: EarlyStopping | None = None
        if experiment.early_stop:
            self._stopping = EarlyStopping(configuration_space, seed=experiment.seed)
            curves = records.accuracy_curves()
            for item in self.finished:
                self._stopping.finished(item, curves.get(item.trial.trial_id, ()))
        self._clock_start = time.monotonic()

    # -- the loop -----------------------------------------------------------------------------------------------------------

    def run(self) -> EndReason:
        """Search until the budget, the number of trials or the space is spent, or somebody stops it."""
        session = self.records.start_session()
        self._clock_start = time.monotonic()
        self._log(
            "started",
            session=session,
            finished=len(self.finished),
            resubmitted=len(self._waiting),
            fidelity=str(self.experiment.fidelity),
            rung_schedule=self.experiment.rung_schedule,
        )
        self._progress.started(self)
        self._notify()
        self.records.back_up()
        beat, backup = Every(ACTIVITY_INTERVAL_SECONDS), Every(BACKUP_INTERVAL_SECONDS)
        try:
            self._record_given_up()
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
            self.records.set_active_seconds(session, self._session_seconds())
            self.records.write_parquet(self.run_directory, self._configuration_space)
        self._log("ended", reason=str(reason), finished=len(self.finished))
        return reason

    def reason_to_stop(self) -> EndReason | None:
        """Return why no further trial may start, or None."""
        if self._interruption.is_set:
            return EndReason.INTERRUPTED
        if self.run_directory.stop_file.exists():
            return EndReason.STOPPED
        limit = self.experiment.trials
        if limit is not None and len(self.finished) + len(self._running) >= limit:
            return EndReason.TRIALS
        # What was asked already, before the search was killed or beside others on a GPU, is run again.
        if (
            not (self._waiting or self._crowded_out)
            and self.evaluations.asked >= (self.experiment.budget_evaluations or math.inf) - TINY_EVALUATIONS
        ):
            return EndReason.EVALUATIONS
        if self.seconds_per_trial() > self.seconds_left():
            return EndReason.BUDGET
        return None

    def seconds_left(self) -> float:
        """Return what is left of the budget, infinite without one."""
        budget = self.experiment.budget_seconds
        return math.inf if budget is None else max(0.0, budget - self.active_seconds())

    def seconds_per_trial(self) -> float:
        """Return how long one more trial takes at least: one that could not end within the budget is not started."""
        return self._pace.shortest_seconds()

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
        while self._crowded_out:
            worker = self._pool.lone_worker()
            if worker is None:
                return None  # those that run end first
            crowded = self._crowded_out.pop(0)
            self._had_own_device.add(crowded.trial_id)
            self._submit([crowded], worker)
        while (worker := self._pool.free_worker()) is not None:
            if self._waiting:  # alone, for it may be what its worker died of
                self._submit([self._waiting.pop(0)], worker)
                continue
            size = self._batch_size()
            batch: list[Trial] = []
            with self._together(size):
                while len(batch) < size:
                    reason = self.reason_to_stop()
                    trial = self._ask() if reason is None else None
                    if trial is None:
                        break
                    self._running[trial.trial_id] = trial
                    batch.append(trial)
            if batch:
                self._submit(batch, worker)
            elif reason is None and self._searcher.is_exhausted and not self._running:
                self.records.set_meta("exhausted", str(len(self.finished)))
                return EndReason.EXHAUSTED
            if len(batch) < size:
                return reason
        return None

    def _batch_size(self) -> int:
        """Return how many trials go to a worker at once: one, unless they are much shorter than a message is on its way.

        And unless that changes the search: what a searcher asks may depend on results, and a time-out is each trial's own.
        """
        if self._searcher.learn or self.space.is_trained or self.experiment.trial_timeout_seconds is not None:
            return 1
        return max(1, min(MAX_BATCH, int(BATCH_SECONDS / max(self._pace.longest_seconds(), TINY_SECONDS))))

    def _ask(self) -> Trial | None:
        asked = self._searcher.ask()
        if asked is None:
            return None
        searcher, suggestion = asked
        parent = self._checkpoints.parent_of(suggestion)
        trial = self.records.add_trial(
            suggestion, searcher=searcher, state=self._searcher.state(searcher), parent_trial_id=parent
        )
        self.evaluations.started(trial)
        self._progress.asked(trial)
        return trial

    # -- evaluate -----------------------------------------------------------------------------------------------------------

    def _submit(self, batch: list[Trial], worker: str) -> None:
        for trial in batch:
            self._running[trial.trial_id] = trial
            self._watchdog.started(trial)
        payloads = [self._task(trial).to_dict() for trial in batch]
        task_id = batch[0].trial_id
        self._batches[task_id] = [trial.trial_id for trial in batch]
        self._pool.submit(task_id, payloads[0] if len(batch) == 1 else {BATCH: payloads}, worker=worker)

    def _task(self, trial: Trial) -> TrialTask:
        experiment = self.experiment
        if not self.space.is_trained:
            return TrialTask(
                trial_id=trial.trial_id,
                space=self.space.origin,
                config=trial.config,
                fidelity=trial.fidelity,
                seed=trial.seed,
                tells_beginning=experiment.trial_timeout_seconds is not None,
                seconds_limit=experiment.trial_timeout_seconds,
                space_digest=self._space_digest,
                max_latency_ms=experiment.limits.max_latency_ms,
                needed_measures=tuple(OBJECTIVE_COLUMNS[name] for name in experiment.objective),
            )
        parent = trial.parent_trial_id
        parent_file = None if parent is None else self.run_directory.checkpoint(parent).resolve()
        return TrialTask(
            trial_id=trial.trial_id,
            space=self.space.origin,
            config=trial.config,
            fidelity=trial.fidelity,
            seed=trial.seed,
            data=self._data,
            width=experiment.width,
            recipe=experiment.trial_recipe(trial.config),
            schedule_epochs=experiment.fidelity.max,
            threads=self._threads,
            measure_latency="latency_ms" in experiment.objective,
            max_latency_ms=experiment.limits.max_latency_ms,
            checkpoint_from=str(parent_file) if parent_file is not None and parent_file.exists() else None,
            checkpoint_to=str(self.run_directory.checkpoint(trial.trial_id).resolve()),
            keep_if_cost_below=self._checkpoints.keep_if_cost_below(trial),
            tells_beginning=experiment.trial_timeout_seconds is not None,
            seconds_limit=experiment.trial_timeout_seconds,
            uses_kernels=experiment.uses_kernels,
            may_cut_batches=not self._had_neighbours(trial.trial_id),
            space_digest=self._space_digest,
            forecast=self._forecast(trial),
        )

    def _forecast(self, trial: Trial) -> Forecast | None:
        """Return what a trial is stopped by, None where nothing does.

        The random baseline is trained to the end: stopped by the other searcher's incumbent, it could not be compared with it.
        """
        if self._stopping is None or self.incumbent is None:
            return None
        if trial.searcher == "random" != self.experiment.searcher:
            return None
        return self._stopping.forecast(trial.config, self.incumbent.cost)

    def _had_neighbours(self, trial_id: int) -> bool:
        """Return whether other trials may take memory of the GPU that a trial runs on."""
        return self._pool.shares_devices and trial_id not in self._had_own_device

    def heard(self, message: Mapping[str, Any]) -> None:
        """Note a heartbeat of a running trial. Called from the pool's own thread."""
        if message.get("has_begun"):
            self._watchdog.begun(int(message["trial_id"]))
            return
        seconds = message.get("seconds")  # of an epoch that has ended; None of a step
        self._watchdog.heard(int(message["trial_id"]), epoch_seconds=seconds)
        if seconds is not None:
            self._progress.epoch(message)

    def _end_overdue_trials(self) -> None:
        """Kill trials that run past their time-out or fell silent; a killed worker is replaced by its nanny."""
        timeout = self.experiment.trial_timeout_seconds
        grace = TIMEOUT_GRACE_SECONDS if self.space.is_trained else OBJECTIVE_GRACE_SECONDS
        for trial_id in list(self._batches):
            trial = self._running[trial_id]
            seconds = self._watchdog.seconds(trial)
            if timeout is not None and self._watchdog.is_over(trial, timeout + grace):
                self._pool.kill(trial_id)
                del self._batches[trial_id]
                error = f"killed after {seconds:.0f} s, limit {timeout:g} s"
                self._record(trial_id, Result(status=Status.TIMEOUT, error=error, seconds=seconds))
            elif (silence := self._watchdog.allowed_silence_exceeded(trial)) is not None:
                self._pool.kill(trial_id)
                self._retry_or_record(self._batches.pop(trial_id), f"no heartbeat for {silence:.0f} s")

    # -- record, tell -------------------------------------------------------------------------------------------------------

    def _take(self, finished: Finished) -> None:
        batch, outcome = self._batches.pop(finished.task_id), finished.outcome
        if isinstance(outcome, WorkerLost) and self._interruption.is_set:
            # A cluster, or `timeout`, ends search and workers with the same signal: the trial is not to blame, and runs again.
            for trial_id in batch:
                del self._running[trial_id]
        elif isinstance(outcome, WorkerLost) and outcome.is_blameless:
            self._try_again(batch)
        elif isinstance(outcome, WorkerLost):
            self._retry_or_record(batch, outcome.reason)
        elif isinstance(outcome, NaxcliError):  # its space or data cannot be loaded
            raise outcome
        elif isinstance(outcome, BaseException):
            for trial_id in batch:
                self._record(trial_id, failure(outcome))
        elif outcome.get("status") == Status.OUT_OF_MEMORY and self._had_neighbours(batch[0]):
            self._log("crowded_out", trial_id=batch[0])
            self._progress.notice(f"trial {batch[0]} ran out of memory beside others; trying it again alone on its GPU")
            self._crowded_out.append(self._running.pop(batch[0]))
        else:
            results = outcome.get(BATCH, [outcome])
            self._record_batch(dict(zip(batch, results, strict=False)))
            self._try_again(batch[len(results) :])  # not begun

    def _try_again(self, trial_ids: list[int]) -> None:
        """Have running trials wait for a worker; for a GPU of its own where one was crowded out before."""
        for trial_id in trial_ids:
            waiting = self._crowded_out if trial_id in self._had_own_device else self._waiting
            waiting.append(self._running.pop(trial_id))

    def _retry_or_record(self, batch: list[int], reason: str) -> None:
        """Try a trial that was lost with its worker once more; then it counts as crashed. Of several, each is tried alone."""
        if len(batch) > 1:
            self._log("worker_lost", trial_ids=batch, reason=reason)
            self._try_again(batch)
            return
        trial_id = batch[0]
        attempts = self._attempts.get(trial_id, 0) + 1
        self._attempts[trial_id] = attempts
        self._log("worker_lost", trial_id=trial_id, reason=reason, attempt=attempts)
        if attempts < MAX_ATTEMPTS:
            self.records.add_attempt(trial_id, reason)
            self._progress.notice(f"trial {trial_id} lost its worker ({reason}); trying it once more")
            self._try_again([trial_id])
        else:
            seconds = self._watchdog.seconds(self._running[trial_id])
            self._record(trial_id, Result(status=Status.CRASHED, error=f"{reason}, {attempts} times", seconds=seconds))

    def _record_given_up(self) -> None:
        """Record the trials that ended the search, or their worker and the search, as often as a trial is tried."""
        for item in self._given_up:
            trial_id = item.trial.trial_id
            self._running[trial_id] = item.trial
            error = f"it ended its worker or the search itself {item.attempts} times, the last time by:\n{item.reason}"
            self._record(trial_id, Result(status=Status.CRASHED, error=error))

    def _record_batch(self, outcomes: Mapping[int, Mapping[str, Any]]) -> None:
        """Record results that came together; one that raises what is no condition of the whole run counts as an attempt of its trial.

        Only then is it known whose fault it is that the search ends, and would end at each resume. A process that was killed,
        by whatever signal, or that ran out of disk counts for no trial: those that ran are run again, however often.
        """
        trial_id = 0
        try:
            with self._together(len(outcomes)):
                for trial_id, values in outcomes.items():
                    self._record(trial_id, result_from_dict(values))
        except NaxcliError:
            raise
        except Exception as error:
            self.records.add_attempt(trial_id, error_text(error))
            raise

    def _together(self, size: int) -> contextlib.AbstractContextManager[None]:
        """Return the one transaction of a batch; of a single trial, each step is on disk before the next."""
        return self.records.together() if size > 1 else contextlib.nullcontext()

    def _record(self, trial_id: int, result: Result) -> None:
        trial = self._running.pop(trial_id)
        self._watchdog.ended(trial, result.seconds)
        if result.ended_at is None:
            now = time.time()
            result = dataclasses.replace(result, started_at=now - result.seconds, ended_at=now)
        self.records.add_result(trial_id, result)
        cost = result.cost if result.status == Status.SUCCESS else None
        measured = [getattr(result, OBJECTIVE_COLUMNS[name]) for name in self.experiment.objective]
        item = FinishedTrial(
            trial=trial,
            status=result.status,
            cost=cost,
            seconds=result.seconds,
            worker=result.worker,
            grad_accum_steps=result.grad_accum_steps,
            predicted_cost=result.predicted_cost,
            stopped_after=result.stopped_after,
        )
        self._searcher.tell(trial, cost=objective_costs(item.told_cost, measured))
        if self._stopping is not None:
            self._stopping.finished(item, [epoch.val_accuracy for epoch in result.curve])
        self.finished.append(item)
        self.status_counts[item.status] += 1
        self._pace.add(item)
        self.evaluations.ended(item)
        self._leaderboard.add(item)
        self.incumbent = self._leaderboard.incumbent
        self._checkpoints.finished(item, incumbent=self.incumbent)
        self._log("finished", trial_id=trial_id, status=str(result.status), cost=cost, seconds=result.seconds)
        self._progress.finished(trial, result, self.incumbent)
        self._notify()
        self._refuse_only_failures(result)

    def _notify(self) -> None:
        """Say what there is to know of the next suggestions and was not said before."""
        for notice in self._searcher.notices():
            if notice not in self._notices:
                self._notices.add(notice)
                self._progress.notice(notice)

    def _refuse_only_failures(self, result: Result) -> None:
        """Stop a search whose first trials all failed, unless it was resumed since: its user wants it to go on."""
        counts = self.status_counts
        if counts.total() not in (MAX_LEADING_CRASHES, MAX_LEADING_FAILURES) or counts[Status.SUCCESS]:
            return
        only_crashes = counts.total() == counts[Status.CRASHED]
        if not only_crashes and counts.total() == MAX_LEADING_CRASHES:
            return
        ended = ", ".join(f"{number} {status}" for status, number in counts.items() if number)
        raise NaxcliError(
            f"the first {counts.total()} trials all {'crashed' if only_crashes else f'failed: {ended}'}",
            why=result.reason,
            hint=f"naxcli space validate {shlex.quote(self.space.origin)} says what is wrong with a space; "
            "the run's `error` column has every reason",
            exit_code=ExitCode.FAILED,
        )

    # -- time ---------------------------------------------------------------------------------------------------------------

    def _session_seconds(self) -> float:
        return time.monotonic() - self._clock_start

    def _log(self, event: str, **values: Any) -> None:
        line = json.dumps({"at": time.time(), "event": event, **values})
        with self.run_directory.log_file.open("a", encoding="utf-8") as handle:
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
