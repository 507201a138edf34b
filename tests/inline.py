"""A pool that evaluates in the test's own process, so that a search of many trials takes moments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from naxcli.cli.output import stderr_console
from naxcli.cli.progress import SearchProgress
from naxcli.commands import confirm, plan
from naxcli.commands.search import SearchEnd, run_session
from naxcli.commands.session import SearchRequest, Session, open_session
from naxcli.workers import gpu_sharing
from naxcli.workers import pool as workers
from naxcli.workers.evaluate import evaluate
from naxcli.workers.pool import BATCH, Finished
from naxcli.workers.task import TrialTask, result_to_dict
from naxcli.workers.zero_cost import ZERO_COST, measure_configs


class InlinePool:
    """One worker, in this process; see `WorkerPool`."""

    capacity = 1
    shares_devices = False

    def __init__(
        self, *_: object, on_heartbeat: Callable[[Mapping[str, Any]], None] | None = None, **__: object
    ) -> None:
        self._on_heartbeat = on_heartbeat
        self._finished: list[Finished] = []

    def __enter__(self) -> InlinePool:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def num_running(self) -> int:
        return len(self._finished)

    def free_worker(self) -> str | None:
        return None if self._finished else "here"

    def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
        if ZERO_COST in payload:
            self._finished.append(Finished(task_id=task_id, outcome=measure_configs(payload)))
            return
        results = [self._evaluate(TrialTask.from_dict(task)) for task in payload.get(BATCH, [payload])]
        self._finished.append(Finished(task_id=task_id, outcome={BATCH: results} if BATCH in payload else results[0]))

    def _evaluate(self, task: TrialTask) -> dict[str, Any]:
        def heartbeat(epoch: Mapping[str, Any]) -> None:
            if self._on_heartbeat is not None:
                self._on_heartbeat({"trial_id": task.trial_id, **epoch})

        return result_to_dict(evaluate(task, heartbeat))

    def wait(self, timeout: float) -> Iterator[Finished]:
        while self._finished:
            yield self._finished.pop()


def use_pool(pool: type[InlinePool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what starts workers evaluate in this process instead."""
    for module in (workers, confirm, plan, gpu_sharing):  # imported before: they would keep the name as it is patched
        monkeypatch.setattr(module, "WorkerPool", pool)
    monkeypatch.setattr("naxcli.workers.evaluate.return_memory", lambda: None)  # of torch, which other tests imported


def quiet(session: Session) -> SearchProgress:
    return SearchProgress(session, stderr_console(), is_quiet=True)


def search_inline(
    space: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_progress: Callable[[Session], SearchProgress] = quiet,
    *,
    pool: type[InlinePool] = InlinePool,
    **flags: Any,
) -> SearchEnd:
    """Run a search in this process, with the settings of the flags; the run is resumed if it is there."""
    use_pool(pool, monkeypatch)
    request = SearchRequest(space=str(space), flags={"workers": "1", "searcher": "random", **flags}, run=str(run))
    session = open_session(request)
    with make_progress(session) as progress:
        end = run_session(session, progress)
        progress.summarise(end)
    return end
