"""A list of tasks on a worker pool, in any order: what confirmation, planning and measurements run instead of a search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.trial import Result, Status
from naxcli.workers.evaluate import failure
from naxcli.workers.pool import Finished, WorkerLost, WorkerPool
from naxcli.workers.task import TrialTask, result_from_dict

MAX_ATTEMPTS = 2
MAY_CUT_BATCHES = "may_cut_batches"  # of a TrialTask
TICK_SECONDS = 0.25


def run_tasks(
    pool: WorkerPool, tasks: Iterable[TrialTask], *, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[tuple[TrialTask, Result]]:
    """Yield each task with its result as it ends; a trial lost with its worker is tried once more.

    So is one that ran out of memory beside others on its GPU, alone there.

    Args:
        pool: Workers to run on.
        tasks: Trials, taken from the iterable when a worker is free, so that it may decide late what comes next.
        should_stop: Asked between results; running tasks are then left to the pool, which ends them when it is closed.

    Raises:
        NaxcliError: If the space or the data of a task cannot be loaded.
    """
    running: dict[int, TrialTask] = {}

    def payloads() -> Iterator[tuple[int, Mapping[str, Any]]]:
        for task in tasks:
            running[task.trial_id] = task
            yield task.trial_id, {**task.to_dict(), MAY_CUT_BATCHES: not pool.shares_devices}

    for finished in run_payloads(pool, payloads(), max_attempts=MAX_ATTEMPTS, should_stop=should_stop):
        task = running.pop(finished.task_id)
        if isinstance(finished.outcome, WorkerLost):
            yield task, Result(status=Status.CRASHED, error=finished.outcome.reason)
        elif isinstance(finished.outcome, NaxcliError):  # its space or data cannot be loaded
            raise finished.outcome
        elif isinstance(finished.outcome, BaseException):
            yield task, failure(finished.outcome)
        else:
            yield task, result_from_dict(finished.outcome)


def run_payloads(
    pool: WorkerPool,
    payloads: Iterable[tuple[int, Mapping[str, Any]]],
    *,
    max_attempts: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Finished]:
    """Yield what came back for each payload, in the order in which they end.

    Args:
        pool: Workers to run on.
        payloads: Numbers and arguments of the tasks, taken from the iterable when a worker is free.
        max_attempts: Workers that a task may lose; one whose loss is not to blame on the task does not count.
        should_stop: Asked between results; no more is started or waited for then.
    """
    waiting, running, losses = iter(payloads), dict[int, Mapping[str, Any]](), Counter[int]()
    lost: list[tuple[int, Mapping[str, Any]]] = []
    crowded_out: list[tuple[int, Mapping[str, Any]]] = []  # wait for a GPU of their own
    alone: set[int] = set()  # were crowded out, and never run beside others again
    is_open = True
    while (is_open or running or lost or crowded_out) and not should_stop():
        while crowded_out and (worker := pool.lone_worker()) is not None:
            task_id, payload = crowded_out.pop()
            running[task_id] = {**payload, MAY_CUT_BATCHES: True}
            pool.submit(task_id, running[task_id], worker=worker)
        while not crowded_out and (is_open or lost) and (worker := pool.free_worker()) is not None:
            item = lost.pop() if lost else next(waiting, None)
            if item is None:
                is_open = False
                break
            task_id, running[item[0]] = item
            pool.submit(task_id, running[task_id], worker=worker)
        for finished in pool.wait(TICK_SECONDS):
            payload = running.pop(finished.task_id)
            if isinstance(finished.outcome, WorkerLost):
                losses[finished.task_id] += not finished.outcome.is_blameless
                if losses[finished.task_id] < max_attempts:
                    (crowded_out if finished.task_id in alone else lost).append((finished.task_id, payload))
                    continue
            elif _is_crowded_out(finished.outcome, payload):
                alone.add(finished.task_id)
                crowded_out.append((finished.task_id, payload))
                continue
            yield finished


def _is_crowded_out(outcome: Any, payload: Mapping[str, Any]) -> bool:
    """Return whether a trial ran out of the memory that it shares with others on its GPU."""
    is_out_of_memory = isinstance(outcome, dict) and outcome.get("status") == Status.OUT_OF_MEMORY
    return is_out_of_memory and not payload.get(MAY_CUT_BATCHES, True)
