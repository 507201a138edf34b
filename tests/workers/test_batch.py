"""Lists of tasks on a pool: which are tried again, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from naxcli.records.trial import Result, Status
from naxcli.workers.batch import run_tasks
from naxcli.workers.pool import Finished, WorkerLost
from naxcli.workers.task import TrialTask, result_to_dict
from tests.inline import InlinePool


class SmallDevice(InlinePool):
    """A pool whose workers share a GPU that does not hold the second task beside another."""

    shares_devices = True

    def __init__(self, *, fits_alone: bool = True, lost_alone: int = 0) -> None:
        super().__init__()
        self.submitted: list[tuple[int, bool]] = []
        self.was_lone: list[bool] = []
        self._fits_alone = fits_alone
        self._is_lone = False
        self._lost_alone = lost_alone

    def lone_worker(self) -> str | None:
        self._is_lone = not self._finished
        return self.free_worker()

    def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
        fits = task_id != 2 or (self._is_lone and self._fits_alone)
        result = Result(status=Status.SUCCESS, cost=0.5) if fits else Result(status=Status.OUT_OF_MEMORY)
        outcome: Any = result_to_dict(result)
        if self._is_lone and self._lost_alone:
            self._lost_alone -= 1
            outcome = WorkerLost(reason="killed")
        self.submitted.append((task_id, payload["may_cut_batches"]))
        self.was_lone.append(self._is_lone)
        self._finished.append(Finished(task_id=task_id, outcome=outcome))
        self._is_lone = False


@pytest.mark.parametrize("fits_alone", [True, False])
def test_a_task_crowded_out_of_its_gpu_is_tried_alone_where_its_batches_may_be_cut(fits_alone: bool) -> None:
    pool = SmallDevice(fits_alone=fits_alone)
    tasks = [TrialTask(trial_id=number, space="s", config={}, fidelity=1.0, seed=0) for number in (1, 2, 3)]
    found = {task.trial_id: result.status for task, result in run_tasks(pool, tasks)}  # type: ignore[arg-type]
    second = Status.SUCCESS if fits_alone else Status.OUT_OF_MEMORY
    assert found == {1: Status.SUCCESS, 2: second, 3: Status.SUCCESS}
    assert pool.submitted == [(1, False), (2, False), (2, True), (3, False)]


def test_a_task_that_needs_its_gpu_alone_is_alone_again_after_it_lost_its_worker() -> None:
    pool = SmallDevice(lost_alone=1)
    tasks = [TrialTask(trial_id=number, space="s", config={}, fidelity=1.0, seed=0) for number in (1, 2, 3)]
    found = {task.trial_id: result.status for task, result in run_tasks(pool, tasks)}  # type: ignore[arg-type]
    assert set(found.values()) == {Status.SUCCESS}
    second = [is_lone for (number, _), is_lone in zip(pool.submitted, pool.was_lone, strict=True) if number == 2]
    assert second == [False, True, True]
