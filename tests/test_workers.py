"""Worker processes: which devices they get, and when one is replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from naxcli import evaluate, workers
from naxcli.trial import Status
from naxcli.workers import IS_BROKEN, Slot, WorkerPool, cuda_devices, local_slots


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
        (RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory"), Status.OUT_OF_MEMORY),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: device-side assert triggered"), Status.CRASHED),
        (ValueError("out of memory"), Status.CRASHED),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_errors_that_mean_too_little_memory_are_told_from_others(error: Exception, expected: Status) -> None:
    assert evaluate._status_of(error) is expected


def test_gpus_are_counted_by_device_file_then_by_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    devices, driver = tmp_path / "dev", tmp_path / "gpus"
    monkeypatch.setattr(workers, "DEVICE_FOLDER", devices)
    monkeypatch.setattr(workers, "DRIVER_FOLDER", driver)
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
