"""A fixed list of trials on a worker pool, in any order: what confirmation and planning run instead of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from naxcli.errors import NaxcliError
from naxcli.records.trial import Result, Status
from naxcli.workers.evaluate import failure
from naxcli.workers.pool import WorkerLost, WorkerPool
from naxcli.workers.task import TrialTask, result_from_dict

MAX_ATTEMPTS = 2
TICK_SECONDS = 0.25


def run_tasks(
    pool: WorkerPool, tasks: Iterable[TrialTask], *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[TrialTask, Result]]:
    """Yield each task with its result as it ends; a trial lost with its worker is tried once more.

    Tasks are taken from the iterable when a worker is free, so it may decide late what comes next. Once `should_stop` says so,
    running tasks are left to the pool, which ends them when it is closed.
    """
    waiting, running, attempts = iter(tasks), dict[int, TrialTask](), dict[int, int]()
    lost: list[TrialTask] = []
    is_open = True
    while (is_open or running or lost) and not should_stop():
        while (is_open or lost) and (worker := pool.free_worker()) is not None:
            task = lost.pop() if lost else next(waiting, None)
            if task is None:
                is_open = False
                break
            running[task.trial_id] = task
            pool.submit(task.trial_id, task.to_dict(), worker=worker)
        for finished in pool.wait(TICK_SECONDS):
            task = running.pop(finished.task_id)
            if isinstance(finished.outcome, WorkerLost):
                attempts[task.trial_id] = attempts.get(task.trial_id, 0) + (not finished.outcome.is_blameless)
                if attempts[task.trial_id] < MAX_ATTEMPTS:
                    lost.append(task)
                    continue
                yield task, Result(status=Status.CRASHED, error=finished.outcome.reason)
            elif isinstance(finished.outcome, NaxcliError):  # its space or data cannot be loaded
                raise finished.outcome
            elif isinstance(finished.outcome, BaseException):
                yield task, failure(finished.outcome)
            else:
                yield task, result_from_dict(finished.outcome)
