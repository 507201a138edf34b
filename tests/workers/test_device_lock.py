"""The lock of a GPU that workers share: trainings beside each other, a measurement alone."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from naxcli.measure import counts
from naxcli.workers import evaluate
from naxcli.workers.device_lock import LOCK_VARIABLE, DeviceLock
from naxcli.workers.task import TrialTask


def is_held(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_a_measurement_waits_for_the_step_under_way_and_the_training_for_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "gpu"
    events: list[str] = []
    is_asked = threading.Event()

    def measure() -> None:
        is_asked.set()
        with DeviceLock(path).alone():
            events.append("measured")

    measurement = threading.Thread(target=measure)
    with (
        DeviceLock(path).together(lambda: events.append("other")) as beside,
        DeviceLock(path).together(lambda: events.append("synchronised")) as give_way,
    ):
        give_way()
        beside()
        assert events == []  # nobody waits, and trainings do not for each other
        measurement.start()
        assert is_asked.wait(30)
        while not is_held(tmp_path / "gpu-door"):
            assert events == []
        other = threading.Thread(target=beside)
        other.start()
        give_way()
        for thread in (measurement, other):
            thread.join(30)
        assert sorted(events[:2]) == ["other", "synchronised"] and events[2:] == ["measured"]


def test_a_process_alone_on_its_device_waits_for_nobody() -> None:
    lock = DeviceLock(None)
    with lock.alone(), lock.together(lambda: None) as give_way:
        give_way()


def test_a_trials_latency_is_measured_with_the_device_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LOCK_VARIABLE, str(tmp_path / "gpu"))
    seen: list[bool] = []

    def measure(*_: object, **__: object) -> float:
        assert is_held(tmp_path / "gpu-room")
        seen.append(torch.backends.cudnn.allow_tf32)
        return 1.0

    monkeypatch.setattr(counts, "time_until_stable", lambda *_, **__: SimpleNamespace(seconds=measure()))
    torch.backends.cudnn.allow_tf32 = True  # torch's own
    task = TrialTask(trial_id=0, space="s", config={}, fidelity=1.0, seed=0, measure_latency=True)
    found = evaluate._latency_ms(task, torch.nn.Identity(), (1, 8, 8), torch.device("cpu"))
    assert found == 1000.0 and seen == [False]  # in full float32, as a network is exported
