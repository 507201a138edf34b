"""Worker processes: which devices they get, and when one is replaced."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
import torch

from naxcli.errors import NaxcliError
from naxcli.records.trial import Status
from naxcli.workers import evaluate, slots, worker_guard
from naxcli.workers import pool as workers
from naxcli.workers.device_lock import LOCK_VARIABLE
from naxcli.workers.pool import BATCH, IS_BROKEN, WorkerLost, WorkerPool
from naxcli.workers.slots import Slot, cuda_devices, local_slots
from naxcli.workers.task import DataRequest, TrialTask
from naxcli.workers.worker_setup import AUTOGROUP
from tests.command_line import ENVIRONMENT, start


def report_process(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid(), **payload}


@pytest.mark.slow
def test_a_worker_whose_device_broke_is_replaced_after_its_result() -> None:
    pids = []
    with WorkerPool(report_process, slots=[Slot(threads=1)]) as pool:
        for task_id, is_broken in enumerate((False, True, False)):
            while (worker := pool.free_worker()) is None:
                list(pool.wait(0.1))
            pool.submit(task_id, {IS_BROKEN: is_broken}, worker=worker)
            finished = [item for _ in range(100) if pool.num_running for item in pool.wait(0.5)]
            assert isinstance(finished[0].outcome, dict) and IS_BROKEN not in finished[0].outcome
            pids.append(finished[0].outcome["pid"])
    assert pids[0] == pids[1] != pids[2]


def test_a_trial_that_needs_its_gpu_alone_gets_no_neighbour() -> None:
    slots = [Slot(threads=1, cuda_device=device) for device in ("0", "0", "1")]
    # Returns the variable; its payload where there is none.
    with WorkerPool(functools.partial(os.getenv, LOCK_VARIABLE), slots=slots) as pool:  # type: ignore[arg-type]
        # Which the workers' processes inherit.
        assert not dask.config.get("distributed.diagnostics.nvml")
        assert dask.config.get("distributed.admin.tick.interval") == "1s"
        while pool.free_worker() is None or len(pool._usable_workers()) < 3:
            time.sleep(0.05)
        assert pool.shares_devices
        workers_of = {device: [one for one in pool._usable_workers() if pool._device(one) == device] for device in "01"}
        assert [len(found) for found in workers_of.values()] == [2, 1]
        pool.submit(1, {}, worker=workers_of["1"][0])
        lone = pool.lone_worker()
        assert lone in workers_of["0"]
        pool.submit(2, {}, worker=lone)
        assert pool.free_worker() is None  # that beside it stays empty
        assert pool.lone_worker() is None
        locks = {item.task_id: item.outcome for _ in range(200) if pool.num_running for item in pool.wait(0.5)}
        pool.submit(3, {}, worker=next(one for one in workers_of["0"] if one != lone))
        locks |= {item.task_id: item.outcome for _ in range(200) if pool.num_running for item in pool.wait(0.5)}
    assert isinstance(locks[2], str) and locks[2] == locks[3] != locks[1]  # those on one GPU share a lock
    assert not WorkerPool(dict, slots=[Slot(threads=1), Slot(threads=1)]).shares_devices


def test_a_trial_whose_graph_could_not_be_captured_runs_again_without_one_in_a_new_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    submitted: list[Mapping[str, Any]] = []
    restarted: list[str] = []
    answers = [{IS_BROKEN: True, workers.IS_UNGRAPHED_NEEDED: True}, {"status": "success"}]
    pool = WorkerPool(dict, slots=[])
    future = SimpleNamespace(add_done_callback=lambda _: None)
    pool._client = SimpleNamespace(submit=lambda _, payload, **__: submitted.append(payload) or future)
    monkeypatch.setattr(pool, "_outcome", lambda _: answers.pop(0))
    monkeypatch.setattr(pool, "_restart", restarted.append)
    monkeypatch.setattr(pool, "_lost_tasks", lambda: iter(()))
    outcomes = []
    for worker in ("first", "second"):
        pool.submit(7, {"uses_graphs": True}, worker=worker)
        pool._note_done(7, future)
        outcomes += [item.outcome for item in pool.wait(0.1)]
    assert isinstance(outcomes[0], WorkerLost) and outcomes[0].is_blameless  # so that it does not count
    assert outcomes[1] == {"status": "success"}
    assert restarted == ["first"] and [payload["uses_graphs"] for payload in submitted] == [True, False]


class StopsItsProcess:
    """A result in whose sending the worker stalls."""

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[()]]:
        os.kill(os.getpid(), signal.SIGSTOP)
        return dict, ()


def stall_with_the_result(payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"result": StopsItsProcess() if payload["stalls"] else None}


def test_a_worker_that_stalls_with_its_result_holds_up_nobody_and_is_lost_when_it_dies() -> None:
    with WorkerPool(stall_with_the_result, slots=[Slot(threads=1), Slot(threads=1)]) as pool:
        pool.submit(1, {"stalls": True}, worker=pool.free_worker() or "")
        while not (stalled := [child for child in psutil.Process().children(recursive=True) if is_stopped(child)]):
            assert not list(pool.wait(0.1))
        pool.submit(2, {"stalls": False}, worker=pool.free_worker() or "")
        assert [item.task_id for _ in range(20) if pool.num_running == 2 for item in pool.wait(0.5)] == [2]
        stalled[0].kill()
        lost = [item for _ in range(60) if pool.num_running for item in pool.wait(0.5)]
        assert [item.task_id for item in lost] == [1] and isinstance(lost[0].outcome, WorkerLost)


def is_stopped(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def test_workers_are_started_anew_where_the_clock_is_set_back_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask may keep a message until the time of day that it was when the clock was set back."""
    ahead, notices = workers.clock_ahead(), []
    with WorkerPool(report_process, slots=[Slot(threads=1)], on_notice=notices.append) as pool:
        pids = []
        for task_id, hours in enumerate((0, 5, -5)):
            pool.submit(task_id, {}, worker=pool.free_worker() or "")
            monkeypatch.setattr(workers, "clock_ahead", lambda hours=hours: ahead + hours * 3600)
            (finished,) = [item for _ in range(60) if pool.num_running for item in pool.wait(0.5)]
            assert finished.task_id == task_id
            pids.append(finished.outcome["pid"] if isinstance(finished.outcome, dict) else None)
        assert isinstance(finished.outcome, WorkerLost) and finished.outcome.is_blameless
        pool.submit(4, {}, worker=pool.free_worker() or "")
        (again,) = [item for _ in range(60) if pool.num_running for item in pool.wait(0.5)]
        assert isinstance(again.outcome, dict)
        assert pids[0] == pids[1] != again.outcome["pid"] and pids[2] is None
    assert notices == ["the clock was set back; starting the workers anew"]


def test_a_worker_is_never_taken_to_be_gone_while_the_client_updates_what_it_knows() -> None:
    """The client's own regular update names no worker; asked for often enough, it comes between any question and its answer."""
    import dask

    with (
        dask.config.set({"distributed.client.scheduler-info-interval": "1ms"}),
        WorkerPool(report_process, slots=[Slot(threads=1)]) as pool,
    ):
        pool.submit(1, {}, worker=pool.free_worker() or "")
        assert all(pool._workers() for _ in range(2000))


def test_a_device_counts_as_broken_when_nothing_can_be_drawn_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not evaluate.is_device_broken()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "rand", failing)
    monkeypatch.setattr(torch.cuda, "empty_cache", failing)
    assert evaluate.is_device_broken()
    evaluate.return_memory()  # the trial's own error is what the user gets


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), Status.OUT_OF_MEMORY),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), Status.OUT_OF_MEMORY),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"),
            Status.OUT_OF_MEMORY,
        ),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), Status.CRASHED),
        (ValueError("out of memory"), Status.CRASHED),
    ],
    ids=lambda value: str(value)[:40],
)
def test_errors_that_mean_too_little_memory_are_told_from_others(error: Exception, expected: Status) -> None:
    assert evaluate._status_of(error) is expected


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder first in PATH, where a program may take the place of nvidia-smi; what it said is forgotten afterwards."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(slots, "DEVICE_FOLDER", tmp_path / "dev")
    monkeypatch.setattr(slots, "DRIVER_FOLDER", tmp_path / "gpus")
    slots._num_listed_devices.cache_clear()
    yield folder / "nvidia-smi"
    slots._num_listed_devices.cache_clear()


def test_gpus_without_device_files_are_those_that_the_drivers_tool_lists(nvidia_smi: Path, tmp_path: Path) -> None:
    nvidia_smi.write_text(
        "#!/bin/sh\n[ $1 = -L ] || exit 1\n"
        "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo '  MIG 1g.18gb Device 0: (UUID: MIG-1)'; echo 'GPU 1: NVIDIA H200'\n"
    )
    nvidia_smi.chmod(0o755)
    for address in ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0"):  # the machine's, of which a container has two
        (tmp_path / "gpus" / address).mkdir(parents=True)
    assert cuda_devices() == ["0", "1"]
    slots._num_listed_devices.cache_clear()
    nvidia_smi.write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9\n"
    )
    assert cuda_devices() == ["0", "1", "2"]


@pytest.mark.parametrize("given", ["0", "GPU-1, GPU-2", "", "-1", "NoDevFiles", None])
def test_a_worker_with_a_gpu_never_trains_on_the_cpu_in_silence(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    task = TrialTask(
        trial_id=0,
        space="nexception",
        config={},
        fidelity=1.0,
        seed=0,
        data=DataRequest(name="nowhere", root="", split_seed=0, validation_fraction=0.2),
    )
    # Without a GPU it goes on to the data, which is not there.
    message = "given the GPU" if given in ("0", "GPU-1, GPU-2") else "nowhere"
    with pytest.raises(NaxcliError, match=message):  # which ends the search: no trial could be evaluated
        evaluate.evaluate(task)


def test_gpus_are_counted_by_device_file_then_by_driver(
    nvidia_smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, driver = tmp_path / "dev", tmp_path / "gpus"
    nvidia_smi.write_text("#!/bin/sh\nexit 9\n")
    nvidia_smi.chmod(0o755)
    assert cuda_devices() == []
    for address in ("0000:01:00.0", "0000:02:00.0", "0000:03:00.0"):
        (driver / address).mkdir(parents=True)
    assert cuda_devices() == ["0", "1", "2"]
    devices.mkdir()
    for name in ("nvidia3", "nvidiactl", "nvidia-uvm", "nvidia5"):  # of a container with two of the machine's GPUs
        (devices / name).touch()
    assert cuda_devices() == ["0", "1"]
    assert [slot.cuda_device for slot in local_slots(workers=4, threads=1)] == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a, 1")
    assert cuda_devices() == ["GPU-a", "1"]


LEAVING_SPACE = '''
"""Each evaluation leaves processes behind: a program, a program in a session of its own, and a fork."""

import multiprocessing
import pathlib
import subprocess
import time

from ConfigSpace import Categorical, ConfigurationSpace

from naxcli import Space

FOLDER = pathlib.Path({folder!r})


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", list(range(40))))
    return space


def evaluate(config, *, fidelity, seed):
    started = [subprocess.Popen(["sleep", "600"]), subprocess.Popen(["sleep", "600"], start_new_session=True)]
    started.append(multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,)))
    started[-1].start()
    (FOLDER / str(started[-1].pid)).write_text("\\n".join(str(process.pid) for process in started))
    time.sleep(3)
    return 0.0


SPACE = Space(name="leaving", configspace=configspace, evaluate=evaluate)
'''


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.skipif(not worker_guard.is_supported(), reason="processes are not shown as files")
@pytest.mark.parametrize("killed", ["worker", "search"])
def test_what_a_trial_started_ends_with_its_worker(
    killed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the temporary files of the search with the search."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(scratch))
    left = tmp_path / "left"
    left.mkdir()
    space = tmp_path / "leaving.py"
    space.write_text(LEAVING_SPACE.format(folder=str(left)))
    search = start("search", "--space", space, "--trials", "40", "--run", tmp_path / "run", "--workers", "1", "-q")
    try:
        wait_until(lambda: any(file.read_text() for file in left.iterdir()))
        started = [int(pid) for pid in next(left.iterdir()).read_text().split()]
        assert all(psutil.pid_exists(pid) for pid in started)
        (worker,) = [psutil.Process(started[0]).parent()]
        assert worker is not None and search.pid != worker.pid
        (worker if killed == "worker" else psutil.Process(search.pid)).kill()
        wait_until(lambda: not any(is_running(pid) for pid in [*started, worker.pid]), seconds=30)
        if killed == "worker":  # the search goes on with another
            wait_until(lambda: len(list(left.iterdir())) > 1)
            assert search.poll() is None and list(scratch.glob("naxcli-*/*"))
        else:
            wait_until(lambda: not list(scratch.glob("naxcli-*")), seconds=30)
    finally:
        search.kill()
        search.communicate()


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this system does not share the processor out by session")
def test_a_worker_is_as_nice_as_its_search() -> None:
    program = (
        "import os; os.nice(7); from naxcli.workers.worker_setup import AUTOGROUP, guard_children; "
        "guard_children(has_nanny=False); print(AUTOGROUP.read_text())"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=ENVIRONMENT, check=True, timeout=120
    )
    assert shown.stdout.strip().endswith("nice 7")


def test_dask_does_not_write_to_the_terminal() -> None:
    """Its log, and its tasks' errors, tell of every connection that ends."""
    code = """
import asyncio, gc, logging
from distributed.client import AllExit
from distributed.comm import CommClosedError
from naxcli.workers.pool import WorkerPool
from naxcli.workers.slots import Slot

async def main(error):
    async def fail():
        raise error
    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
    del task
    gc.collect()

if __name__ == "__main__":
    with WorkerPool(print, slots=[Slot(threads=1)]):
        pass
    for name in ("", ".client", ".comm.tcp", ".utils"):
        logging.getLogger("distributed" + name).error("Failed", exc_info=CommClosedError("closed"))
    logging.getLogger("tornado.application").error("Exception in callback", exc_info=CommClosedError("closed"))
    for error in (CommClosedError("in <TCP>: Stream is closed"), AllExit()):
        asyncio.run(main(error))
    logging.getLogger("asyncio").error("an error of another kind is shown")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stderr.strip() == "an error of another kind is shown"


def test_a_batch_ends_where_the_device_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those after it need a process of their own, and are left to the search."""
    done: list[Any] = []
    run_trial = workers.run_trial

    def run(payload: Mapping[str, Any]) -> dict[str, Any]:
        if BATCH in payload:
            return run_trial(payload)
        done.append(payload["number"])
        return {"number": payload["number"], **({IS_BROKEN: True} if payload["number"] == 2 else {})}

    monkeypatch.setattr(workers, "run_trial", run)
    outcome = run({BATCH: [{"number": number} for number in (1, 2, 3)]})
    assert outcome == {BATCH: [{"number": 1}, {"number": 2}], IS_BROKEN: True} and done == [1, 2]


def test_what_a_worker_has_loaded_is_not_looked_through_after_each_trial(tiny_space: Path) -> None:
    tiny_space.write_text("import torch\n" + tiny_space.read_text())
    # A process of its own, whose objects are no other test's.
    code = f"""
import gc
from naxcli.workers.evaluate import evaluate
from naxcli.workers.task import TrialTask
config = {{"depth": 1, "kind": "x", "flag": "no", "noise": "p"}}
for number in range(3):
    evaluate(TrialTask(trial_id=number, space={str(tiny_space)!r}, config=config, fidelity=1.0, seed=0))
    print(len(gc.get_objects()), gc.get_freeze_count())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    counts = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    assert all(looked_at < left_out / 10 for looked_at, left_out in counts)
    assert len({left_out for _, left_out in counts}) == 1  # trials themselves are collected
