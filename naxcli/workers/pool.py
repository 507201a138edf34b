"""WorkerPool: long-lived worker processes on this machine or a cluster, one trial each at a time; the only door to dask.

A trial is pinned to one worker. A worker that dies, whatever killed it, costs its trial only, which is reported as `WorkerLost`;
its nanny starts another. Nothing here retries: that is the search's policy.

Whoever can connect to a scheduler, a nanny or a worker of Dask runs code as its user. Those started here listen on loopback only
(SLURM's: on the network), speak TLS only, and take nobody without the certificate of this very search; docs/clusters.md says more.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.settings.connection import Connection
from naxcli.settings.units import format_duration
from naxcli.training.kernels.choice import CHOICES_VARIABLE
from naxcli.workers.admission import Admission
from naxcli.workers.device_lock import LOCK_VARIABLE
from naxcli.workers.scheduler import connect
from naxcli.workers.slots import Slot
from naxcli.workers.slurm import SlurmSettings, make_slurm_cluster, read_settings
from naxcli.workers.worker_guard import SCRATCH_PREFIX, SCRATCH_VARIABLE

HEARTBEAT_TOPIC = "naxcli-epoch"
# Key of a task's result that asks for a new process in place of its worker's.
IS_BROKEN = "is_worker_broken"
# Key of a result that stands for none: the task has to run again with `USES_GRAPHS`, a field of it, false.
IS_UNGRAPHED_NEEDED = "is_ungraphed_needed"
USES_GRAPHS = "uses_graphs"
# Key of a payload and of a result that stand for several short tasks: each message has its price.
BATCH = "batch"
# Longest wait for a worker process to answer after it started: it imports no torch before its first trial.
START_SECONDS = 60.0
CHECK_INTERVAL_SECONDS = 2.0
FETCH_SECONDS = 2.0  # of one try; the other workers wait for it
# Dask keeps some of its messages until a time of day, a few milliseconds later: where the clock is set back meanwhile, for as long
# as it was set back.
CLOCK_STEP_SECONDS = 5.0
# A cluster without workers for this long is worth a line.
NO_WORKERS_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A trial whose worker process ended without an answer, or with whose scheduler the connection broke: then it is not to blame."""

    reason: str
    is_blameless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came back for a task: a dict from the worker, an exception that stops the run, or a lost worker."""

    task_id: int
    outcome: dict[str, Any] | BaseException | WorkerLost


class WorkerPool:
    """Worker processes and the tasks on them. Use as a context manager.

    Args:
        function: Function `function(payload) -> dict` that a task calls on its worker, where it is imported by name.
        slots: Local workers to start; ignored where `cluster` names another.
        cluster: A running Dask scheduler or SLURM; None is this machine.
        shared_folder: Folder that SLURM's workers see too, where they find their certificates.
        on_heartbeat: Called with each heartbeat of a running trial.
        on_notice: Called with what the user should know of the cluster.
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        slots: list[Slot],
        cluster: Connection | None = None,
        shared_folder: Path = Path(),
        on_heartbeat: Callable[[Mapping[str, Any]], None] | None = None,
        on_notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._function = function
        self._slots = slots
        self._connection = cluster
        self._shared_folder = shared_folder
        self._on_heartbeat = on_heartbeat
        self._on_notice = on_notice
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._unfetched: list[tuple[int, Any]] = []  # those done whose worker did not hand the result over yet
        self._running: dict[int, tuple[Any, str]] = {}  # task id -> (future, worker address)
        self._next_check_at = 0.0
        self._known_workers: list[str] = []
        self._ungraphed: set[int] = set()  # tasks
        self._lone: set[str] = set()  # workers beside which none on their GPU gets a task
        self._admission: Admission | None = None
        self._had_workers_at = time.monotonic()
        self._is_absence_said = False
        self._clock_ahead = 0.0
        self._cluster: Any = None
        self._slurm: SlurmSettings | None = None
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> WorkerPool:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._resources = stack.pop_all()
        return self

    def _start(self, stack: contextlib.ExitStack) -> None:
        import dask

        from naxcli.workers.worker_setup import silence_dask

        # Dask would use, and import modules from, a folder in /tmp that any user of the machine may have made before.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, ignore_cleanup_errors=True))
        stack.enter_context(
            dask.config.set(
                {
                    "temporary-directory": scratch,
                    "distributed.scheduler.allowed-failures": 0,  # a worker killed by its trial is not fed it again
                    "distributed.worker.daemon": False,  # data loaders of a trial may have children
                    "distributed.worker.memory.target": False,  # Dask must not spill, pause or kill: trials have their own policy
                    "distributed.worker.memory.spill": False,
                    "distributed.worker.memory.pause": False,
                    "distributed.worker.memory.terminate": False,
                    "distributed.worker.profile.enabled": False,
                    "distributed.diagnostics.nvml": False,  # of every GPU of the machine, in each process
                    # Nobody reads how busy Dask's event loops are; measured 50 times a second, they are never idle.
                    "distributed.admin.tick.interval": "1s",
                    "distributed.admin.system-monitor.interval": "10s",
                    "distributed.admin.log-format": "%(message)s",
                    "distributed.comm.timeouts.connect": "60s",
                    "distributed.scheduler.worker-ttl": None,  # a long convolution holds the interpreter lock, it is not dead
                }
            )
        )
        silence_dask()
        self._clock_ahead = clock_ahead()
        if self._connection is None:
            # Dask would give a worker up that happens to be restarting this long after an earlier one of its slot died.
            stack.enter_context(dask.config.set({"distributed.deploy.lost-worker-timeout": "10000 days"}))
            self._cluster = self._start_local()
        elif self._connection.is_slurm:
            self._slurm = read_settings(self._connection.address)
            self._cluster = stack.enter_context(make_slurm_cluster(self._slurm, shared_folder=self._shared_folder))
            self._cluster.scale(jobs=self._slurm.jobs)
        self._client = self._connect()
        if self._connection is not None:
            self._admission = Admission(self._client, on_notice=self._on_notice)
        if self._on_heartbeat:
            self._client.subscribe_topic(HEARTBEAT_TOPIC, lambda event: self._on_heartbeat(event[1]))

    def __exit__(self, *_: object) -> None:
        # Running trials are not waited for: the search decided before what it waits for.
        with contextlib.suppress(Exception):  # a scheduler that died must not hide why the search ended
            for future, _address in self._running.values():
                future.cancel(force=True)
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)
        if self._cluster is not None:
            if self._slurm is None:
                for nanny in self._cluster.workers.values():
                    nanny.close_gracefully()  # it starts no other worker
                    _kill_process(nanny)
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=5)
        self._resources.close()

    def _was_clock_set_back(self) -> bool:
        before, self._clock_ahead = self._clock_ahead, clock_ahead()
        return self._clock_ahead < before - CLOCK_STEP_SECONDS

    def _start_anew(self) -> Iterator[Finished]:
        """Replace the workers of this machine, and yield what ran on them."""
        lost = list(self._running)
        self._on_notice("the clock was set back; starting the workers anew")
        self.__exit__()
        self._running.clear()
        self._unfetched.clear()
        self.__enter__()
        for task_id in lost:
            outcome = WorkerLost(reason="the clock was set back", is_blameless=True)
            yield Finished(task_id=task_id, outcome=outcome)

    def _start_local(self) -> Any:
        import dask
        from distributed import Nanny, SpecCluster

        from naxcli.workers.certificates import make_security
        from naxcli.workers.worker_setup import LocalScheduler, LocalWorker, start_resource_tracker

        start_resource_tracker()
        security = make_security()
        # Dask's scratch folder, which is this pool's own.
        scratch = Path(dask.config.get("temporary-directory"))
        devices = [slot.cuda_device for slot in self._slots]
        environments = [
            {CHOICES_VARIABLE: str(scratch / "kernels"), SCRATCH_VARIABLE: str(scratch)}
            | slot.environment()
            | ({LOCK_VARIABLE: str(scratch / f"gpu-{devices.index(slot.cuda_device)}")} if self.shares_devices else {})
            for slot in self._slots
        ]
        common = {"host": "127.0.0.1", "port": 0, "protocol": "tls://", "security": security, "dashboard": False}
        specification = {
            index: {
                "cls": Nanny,
                "options": {
                    **common,
                    "worker_class": LocalWorker,
                    "nthreads": 1,
                    "env": environment,
                    "memory_limit": 0,
                    "silence_logs": logging.CRITICAL,
                    "preload": "naxcli.workers.worker_setup",
                },
            }
            for index, environment in enumerate(environments)
        }
        scheduler = {"cls": LocalScheduler, "options": common}
        return SpecCluster(workers=specification, scheduler=scheduler, security=security, silence_logs=logging.CRITICAL)

    def _connect(self) -> Any:
        from distributed import Client

        if self._cluster is not None:
            return Client(self._cluster, set_as_default=False, timeout="30s")
        assert self._connection is not None
        return connect(self._connection)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def capacity(self) -> int:
        """Trials that can run at once: the local slots, or the cluster's workers of this moment."""
        if self._slurm is not None:
            return self._slurm.jobs
        return len(self._slots) if self._cluster is not None else len(self._usable_workers())

    def free_worker(self) -> str | None:
        """Return the address of a worker without a trial, or None."""
        if self._client.status == "connecting":
            return None
        busy = self._busy()
        self._lone &= busy
        shut = {self._device(address) for address in self._lone}
        return next((one for one in self._usable_workers() if one not in busy and self._device(one) not in shut), None)

    def lone_worker(self) -> str | None:
        """Return the address of a worker on whose GPU no trial runs, and none will beside its next one; None while there is none."""
        busy = self._busy()
        used = {self._device(address) for address in busy}
        worker = next((one for one in self._usable_workers() if self._device(one) not in used), None)
        if worker is not None:
            self._lone.add(worker)
        return worker

    @property
    def shares_devices(self) -> bool:
        """Whether several local workers compute on one GPU."""
        devices = [slot.cuda_device for slot in self._slots if slot.cuda_device is not None]
        return self._connection is None and len(set(devices)) < len(devices)

    def _busy(self) -> set[str]:
        return {address for _, address in self._running.values()}

    def _device(self, address: str) -> str:
        """Return what the workers on one GPU have in common; a worker elsewhere is taken to have its own."""
        state = self._cluster.scheduler.workers.get(address) if self._connection is None else None
        return address if state is None else str(self._slots[state.name].cuda_device)

    def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
        """Start a task on a worker; one that has failed to capture a CUDA graph goes without."""
        if task_id in self._ungraphed:
            payload = {**payload, USES_GRAPHS: False}
        future = self._client.submit(
            self._function,
            dict(payload),
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=f"trial-{task_id}-{time.monotonic_ns()}",
        )
        self._running[task_id] = (future, worker)
        future.add_done_callback(functools.partial(self._note_done, task_id))

    def wait(self, timeout: float) -> Iterator[Finished]:
        """Yield the tasks that ended, after at most `timeout` seconds for the first."""
        if self._connection is None and self._was_clock_set_back():
            yield from self._start_anew()
            return
        with contextlib.suppress(queue.Empty):
            while True:
                task_id, future = self._done.get(timeout=timeout) if timeout > 0 else self._done.get_nowait()
                timeout = 0.0
                known = self._running.get(task_id)
                if known is None or known[0] is not future:
                    continue  # cancelled, or reported as lost before
                outcome = self._outcome(future)
                if outcome is None:
                    self._unfetched.append((task_id, future))
                    continue
                del self._running[task_id]
                if isinstance(outcome, dict) and outcome.pop(IS_BROKEN, False):
                    self._restart(known[1])
                if isinstance(outcome, dict) and outcome.pop(IS_UNGRAPHED_NEEDED, False):
                    self._ungraphed.add(task_id)
                    self._on_notice(f"trial {task_id}: a CUDA graph could not be captured; trying it again without")
                    outcome = WorkerLost(reason="a CUDA graph could not be captured", is_blameless=True)
                yield Finished(task_id=task_id, outcome=outcome)
        yield from self._lost_tasks()
        for item in self._unfetched:
            self._done.put(item)
        self._unfetched.clear()

    def kill(self, task_id: int) -> None:
        """End the worker process of a task; the task is forgotten, and a new worker takes the place."""
        future, address = self._running.pop(task_id)
        future.cancel(force=True)
        self._restart(address)

    def _restart(self, address: str) -> None:
        with contextlib.suppress(Exception):  # the worker may be gone by itself
            self._client.restart_workers([address], timeout=START_SECONDS, raise_for_error=False)

    def _workers(self) -> list[str]:
        """Return the addresses of the workers there are, as far as is known while a connection is being made anew.

        Asked of the scheduler itself: the client's `scheduler_info` is now and then overwritten, between its answer and its
        return, by the client's own regular update, which names no worker at all.
        """
        if self._client.status == "running":
            # The scheduler may go away, and the client close, while it is being asked.
            with contextlib.suppress(OSError, AttributeError, RuntimeError):
                is_ours = self._cluster is not None and self._slurm is None
                # Our own scheduler is in this process; a question to it by message would cost more than a short trial.
                self._known_workers = list(self._cluster.scheduler.workers if is_ours else self._client.nthreads())
        if self._client.status in ("closing", "closed"):
            # The connection broke, and a scheduler started anew knows nothing of our tasks.
            raise NaxcliError(
                f"the Dask scheduler of {self._place} is gone",
                why="finished trials are recorded",
                hint="start a scheduler; the same search command resumes",
                exit_code=ExitCode.STOPPED,
            )
        return self._known_workers

    def _usable_workers(self) -> list[str]:
        """Return the addresses of the workers that can run this search's trials."""
        workers = self._workers()
        return workers if self._admission is None else self._admission.admitted(workers)

    @property
    def _place(self) -> str:
        return "this machine" if self._connection is None else self._connection.address

    def _note_done(self, task_id: int, future: Any) -> None:
        self._done.put((task_id, future))

    def _outcome(self, future: Any) -> dict[str, Any] | BaseException | WorkerLost | None:
        """Return what came of a task that ended; None while its worker, which holds the result, is stalled or gone."""
        if future.status == "finished":
            with contextlib.suppress(TimeoutError):
                outcome: dict[str, Any] = future.result(timeout=FETCH_SECONDS)
                return outcome
            return None
        if future.status == "error":
            error: BaseException = future.exception(timeout=30)
            if type(error).__name__ == "KilledWorker":
                return WorkerLost(reason="the worker process died (killed, out of memory, or a segmentation fault)")
            return error
        if future.status == "cancelled":
            # Of those that are still waited for, nobody but the client cancels any, where it loses its scheduler.
            return WorkerLost(reason="the connection to the scheduler was lost", is_blameless=True)
        return WorkerLost(reason="the worker was gone before its result was fetched")

    def _say_absence(self) -> None:
        """Say once that a cluster has had no worker for long."""
        if self._connection is None:
            return
        now = time.monotonic()
        if self._usable_workers():
            self._had_workers_at, self._is_absence_said = now, False
        elif not self._is_absence_said and now - self._had_workers_at > NO_WORKERS_SECONDS:
            self._is_absence_said = True
            hint = "squeue --me shows its jobs" if self._slurm else f"dask worker {self._place} --nthreads 1 starts one"
            self._on_notice(
                f"no workers for {format_duration(NO_WORKERS_SECONDS)} at {self._place}: the search waits; {hint}"
            )

    def _lost_tasks(self) -> Iterator[Finished]:
        """Yield the tasks whose worker is gone: a scheduler that is not ours would wait for its return for ever."""
        if time.monotonic() < self._next_check_at:
            return
        self._next_check_at = time.monotonic() + CHECK_INTERVAL_SECONDS
        if self._slurm is not None:
            self._cluster.scale(jobs=self._slurm.jobs)  # jobs that reached their walltime are replaced
        self._say_absence()
        alive = set(self._workers())
        for task_id, (future, address) in list(self._running.items()):
            if address not in alive and (not future.done() or (task_id, future) in self._unfetched):
                future.cancel(force=True)
                del self._running[task_id]
                yield Finished(task_id=task_id, outcome=WorkerLost(reason=f"the worker {address} is gone"))


def clock_ahead() -> float:
    """Return by how many seconds the time of day is ahead of the clock that nobody can set."""
    return time.time() - time.monotonic()


def _kill_process(nanny: Any) -> None:
    """End a local worker at once: a trial does not notice a polite request before its next epoch."""
    pid = getattr(nanny, "pid", None)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_trial(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate a task on a worker, or a batch of them one after another, reporting each epoch to whoever listens.

    A payload that asks for zero-cost metrics is answered as well.
    """
    if BATCH in payload:
        results: list[dict[str, Any]] = []
        for task in payload[BATCH]:
            results.append(run_trial(task))
            if results[-1].pop(IS_BROKEN, False):
                return {BATCH: results, IS_BROKEN: True}  # the others need another process
        return {BATCH: results}
    from distributed import get_worker

    from naxcli.workers import worker_setup
    from naxcli.workers.zero_cost import ZERO_COST, measure_configs

    if ZERO_COST in payload:
        return measure_configs(payload)
    from naxcli.workers.evaluate import NewProcessNeeded, evaluate, is_device_broken
    from naxcli.workers.task import TrialTask, result_to_dict

    task = TrialTask.from_dict(payload)
    worker = get_worker()
    worker_setup.guard_children(has_nanny=worker.nanny is not None)

    def heartbeat(epoch: Mapping[str, Any]) -> None:
        worker.log_event(HEARTBEAT_TOPIC, {"trial_id": task.trial_id, **epoch})

    try:
        result = result_to_dict(evaluate(task, heartbeat))
    except NewProcessNeeded:
        return {IS_BROKEN: True, IS_UNGRAPHED_NEEDED: True}
    return {**result, IS_BROKEN: True} if is_device_broken() else result
