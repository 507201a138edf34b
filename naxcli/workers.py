"""WorkerPool: long-lived worker processes on this machine or a cluster, one trial each at a time; the only door to dask.

A trial is pinned to one worker. A worker that dies, whatever killed it, costs its trial only, which is reported as `WorkerLost`;
its nanny starts another. Nothing here retries: that is the search's policy.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from naxcli.errors import ExitCode, NaxcliError
from naxcli.slurm import PREFIX, SlurmSettings, make_slurm_cluster, read_settings

HEARTBEAT_TOPIC = "naxcli-epoch"
# Key of a task's result that asks for a new process in place of its worker's.
IS_BROKEN = "is_worker_broken"
# Key of a payload and of a result that stand for several short tasks: each message has its price.
BATCH = "batch"
# Longest wait for a worker process to answer after it started: it imports no torch before its first trial.
START_SECONDS = 60.0
CHECK_INTERVAL_SECONDS = 2.0
CONNECT_SECONDS = 10.0
DEVICE_FOLDER, DRIVER_FOLDER = Path("/dev"), Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLost:
    """A trial whose worker process ended without an answer."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came back for a task: a dict from the worker, an exception that stops the run, or a lost worker."""

    task_id: int
    outcome: dict[str, Any] | BaseException | WorkerLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where one trial at a time runs on this machine: a number of CPU threads, and a CUDA device or none."""

    threads: int
    cuda_device: str | None = None

    def environment(self) -> dict[str, str]:
        threads = str(self.threads)
        environment = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        if self.cuda_device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self.cuda_device
        return environment


def local_slots(*, workers: int | str, threads: int | None) -> list[Slot]:
    """Return the slots of this machine: one per GPU where there are GPUs, else one per CPU core, or as many as asked for."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = cuda_devices()
    num_slots = (len(devices) or num_cores) if workers == "auto" else int(workers)
    share = threads or max(1, num_cores // num_slots)
    return [Slot(threads=share, cuda_device=devices[i % len(devices)] if devices else None) for i in range(num_slots)]


def cuda_devices() -> list[str]:
    """Return the ids of the visible CUDA devices, without importing torch or creating a CUDA context."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() and device.strip() != "-1"]
    # A container sees the device files of its own GPUs only; the driver's folder lists the machine's, or is missing.
    found = [path for path in DEVICE_FOLDER.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    found = found or list(DRIVER_FOLDER.glob("*"))
    return [str(index) for index in range(len(found))]


class WorkerPool:
    """Worker processes and the tasks on them. Use as a context manager.

    Args:
        function: what a task calls on the worker: `function(payload) -> dict`; importable by name there.
        slots: the local workers to start; ignored where `cluster` names a scheduler.
        cluster: address of a running Dask scheduler, `slurm:FILE`, or None for this machine.
        on_heartbeat: called with each message that a running trial sends.
    """

    def __init__(
        self,
        function: Callable[[Mapping[str, Any]], dict[str, Any]],
        *,
        slots: list[Slot],
        cluster: str | None = None,
        on_heartbeat: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> None:
        self._function = function
        self._slots = slots
        self._address = cluster
        self._on_heartbeat = on_heartbeat
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._running: dict[int, tuple[Any, str]] = {}  # task id -> (future, worker address)
        self._next_check_at = 0.0
        self._known_workers: list[str] = []
        self._cluster: Any = None
        self._slurm: SlurmSettings | None = None

    def __enter__(self) -> WorkerPool:
        import dask

        dask.config.set(
            {
                "distributed.scheduler.allowed-failures": 0,  # a worker killed by its trial is not fed it again
                "distributed.worker.daemon": False,  # data loaders of a trial may have children
                "distributed.worker.memory.target": False,  # Dask must not spill, pause or kill: trials have their own policy
                "distributed.worker.memory.spill": False,
                "distributed.worker.memory.pause": False,
                "distributed.worker.memory.terminate": False,
                "distributed.worker.profile.enabled": False,
                "distributed.admin.log-format": "%(message)s",
                "distributed.comm.timeouts.connect": "60s",
                "distributed.scheduler.worker-ttl": None,  # a long convolution holds the interpreter lock, it is not dead
            }
        )
        for name in (
            "distributed",
            "distributed.nanny",
            "distributed.worker",
            "distributed.scheduler",
            "distributed.core",
        ):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from distributed import Client

        self._slurm = read_settings(self._address) if self._address and self._address.startswith(PREFIX) else None
        if self._slurm is not None:
            self._cluster = make_slurm_cluster(self._slurm)
            self._cluster.scale(jobs=self._slurm.jobs)
        elif self._address is None:
            # Dask would give a worker up that happens to be restarting this long after an earlier one of its slot died.
            dask.config.set({"distributed.deploy.lost-worker-timeout": "10000 days"})
            self._cluster = self._start_local()
        try:
            if self._cluster is None:
                _require_listener(str(self._address))
            self._client = Client(self._cluster or self._address, set_as_default=False, timeout="30s")
        except (OSError, TimeoutError) as error:
            raise NaxcliError(
                f"no Dask scheduler answers at {self._address}", why=str(error), hint="start one with: dask scheduler"
            ) from error
        if self._on_heartbeat:
            self._client.subscribe_topic(HEARTBEAT_TOPIC, lambda event: self._on_heartbeat(event[1]))
        return self

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
                    _kill_process(nanny)
            with contextlib.suppress(Exception):
                self._cluster.close(timeout=5)

    def _start_local(self) -> Any:
        from distributed import Nanny, Scheduler, SpecCluster

        specification = {
            index: {
                "cls": Nanny,
                "options": {
                    "nthreads": 1, "env": slot.environment(), "memory_limit": 0, "dashboard": False, "silence_logs": logging.CRITICAL,
                    "preload": "naxcli.worker_setup", "local_directory": None,
                },
            }
            for index, slot in enumerate(self._slots)
        }  # fmt: skip
        options = {"dashboard": False, "dashboard_address": "127.0.0.1:0", "host": "127.0.0.1", "port": 0}
        scheduler = {"cls": Scheduler, "options": options}
        return SpecCluster(workers=specification, scheduler=scheduler, silence_logs=logging.CRITICAL)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def capacity(self) -> int:
        """Trials that can run at once: the local slots, or the cluster's workers of this moment."""
        if self._slurm is not None:
            return self._slurm.jobs
        return len(self._slots) if self._cluster is not None else len(self._workers())

    def free_worker(self) -> str | None:
        """Return the address of a worker without a trial, or None."""
        busy = {address for _, address in self._running.values()}
        return next((address for address in self._workers() if address not in busy), None)

    def submit(self, task_id: int, payload: Mapping[str, Any], *, worker: str) -> None:
        """Start a task on a worker."""
        future = self._client.submit(
            self._function, dict(payload), workers=[worker], allow_other_workers=False, pure=False, retries=0,
            key=f"trial-{task_id}-{time.monotonic_ns()}",
        )  # fmt: skip
        self._running[task_id] = (future, worker)
        future.add_done_callback(functools.partial(self._note_done, task_id))

    def wait(self, timeout: float) -> Iterator[Finished]:
        """Yield the tasks that ended, after at most `timeout` seconds for the first."""
        with contextlib.suppress(queue.Empty):
            while True:
                task_id, future = self._done.get(timeout=timeout) if timeout > 0 else self._done.get_nowait()
                timeout = 0.0
                known = self._running.get(task_id)
                if known is None or known[0] is not future:
                    continue  # cancelled, or reported as lost before
                del self._running[task_id]
                outcome = self._outcome(future)
                if isinstance(outcome, dict) and outcome.pop(IS_BROKEN, False):
                    self._restart(known[1])
                yield Finished(task_id=task_id, outcome=outcome)
        yield from self._lost_tasks()

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
                f"the Dask scheduler at {self._address or 'this machine'} is gone", why="finished trials are recorded",
                hint="start a scheduler; the same search command resumes", exit_code=ExitCode.STOPPED,
            )  # fmt: skip
        return self._known_workers

    def _note_done(self, task_id: int, future: Any) -> None:
        self._done.put((task_id, future))

    def _outcome(self, future: Any) -> dict[str, Any] | BaseException | WorkerLost:
        if future.status == "finished":
            outcome: dict[str, Any] = future.result(timeout=30)
            return outcome
        if future.status == "error":
            error: BaseException = future.exception(timeout=30)
            if type(error).__name__ == "KilledWorker":
                return WorkerLost(reason="the worker process died (killed, out of memory, or a segmentation fault)")
            return error
        return WorkerLost(reason=f"the task was {future.status}")

    def _lost_tasks(self) -> Iterator[Finished]:
        """Yield the tasks whose worker is gone: a scheduler that is not ours would wait for its return for ever."""
        if time.monotonic() < self._next_check_at:
            return
        self._next_check_at = time.monotonic() + CHECK_INTERVAL_SECONDS
        if self._slurm is not None:
            self._cluster.scale(jobs=self._slurm.jobs)  # jobs that reached their walltime are replaced
        alive = set(self._workers())
        for task_id, (future, address) in list(self._running.items()):
            if address not in alive and not future.done():
                future.cancel(force=True)
                del self._running[task_id]
                yield Finished(task_id=task_id, outcome=WorkerLost(reason=f"the worker {address} is gone"))


def _require_listener(address: str) -> None:
    """Raise OSError at once where nobody listens; Dask would try again for half a minute."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if address.startswith("tcp://") and port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()


def _kill_process(nanny: Any) -> None:
    """End a local worker at once: a trial does not notice a polite request before its next epoch."""
    pid = getattr(nanny, "pid", None)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def run_trial(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Evaluate a task on a worker, or a batch of them one after another, reporting each epoch to whoever listens."""
    if BATCH in payload:
        return {BATCH: [run_trial(task) for task in payload[BATCH]]}
    from distributed import get_worker

    from naxcli.evaluate import TrialTask, evaluate, is_device_broken, result_to_dict

    task = TrialTask.from_dict(payload)
    worker = get_worker()

    def heartbeat(epoch: Mapping[str, Any]) -> None:
        worker.log_event(HEARTBEAT_TOPIC, {"trial_id": task.trial_id, **epoch})

    result = result_to_dict(evaluate(task, heartbeat))
    return {**result, IS_BROKEN: True} if is_device_broken() else result
