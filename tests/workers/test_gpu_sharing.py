"""How many trials share a GPU: the decision, and the measurement, which runs on a CPU as it does on a GPU."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from naxcli.records.directory import RunDirectory
from naxcli.search_space.contract import load_space
from naxcli.settings.experiment import Experiment
from naxcli.settings.sources import resolve
from naxcli.workers import gpu_sharing
from naxcli.workers.gpu_sharing import SharedDevice, measure_sharing, measured_slots, slots_of_run, trials_per_device
from naxcli.workers.slots import Slot
from naxcli.workers.task import DataRequest, TrialTask

GIB = 1 << 30


def device(
    rates: dict[int, float], *, trial_gib: float = 2.0, context_gib: float = 0.5, total_gib: float = 80.0
) -> gpu_sharing.Measure:
    """Return the measurement of a made-up device that does so many steps a second with so many processes."""

    def measure(num: int) -> SharedDevice:
        return SharedDevice(
            num=num,
            steps_per_second=rates[num],
            used_bytes=int(num * context_gib * GIB),
            trial_bytes=int(trial_gib * GIB),
            total_bytes=int(total_gib * GIB),
        )

    return measure


@pytest.mark.parametrize(
    ("rates", "expected"),
    [({1: 100, 2: 105}, 1), ({1: 100, 2: 160, 4: 170}, 2), ({1: 10, 2: 20, 4: 39, 8: 70}, 8), ({1: 100, 2: 60}, 1)],
)
def test_trials_share_a_gpu_while_that_gains(rates: dict[int, float], expected: int) -> None:
    assert trials_per_device(device(rates))[0] == expected


def test_trials_do_not_share_a_gpu_beyond_its_memory() -> None:
    rates = {1: 10.0, 2: 20.0, 4: 40.0, 8: 80.0}
    num, measured = trials_per_device(device(rates, trial_gib=15))
    assert num == 4
    assert [item.num for item in measured] == [1, 2, 4]  # eight would not fit, and were not tried


def experiment_on(data: str, **flags: object) -> Experiment:
    assignments = ["width=0.05", "recipe.batch_size=64"]
    return resolve(flags={"space": "nexception", "data": data, **flags}, assignments=assignments, has_networks=True)


@pytest.mark.slow
def test_processes_that_train_side_by_side_are_measured() -> None:
    request = DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2)
    found = measure_sharing(
        2,
        slot=Slot(threads=1),
        experiment=experiment_on("digits"),
        space=load_space("nexception"),
        data=request,
        warm_up_seconds=1.0,
        window_seconds=1.0,
    )
    assert found.num == 2 and found.steps_per_second > 2
    assert 0 < found.trial_bytes < found.total_bytes and 0 < found.used_bytes < found.total_bytes


def test_memory_in_use_is_read_once_no_process_trains_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each process counts what its neighbours' trainings take as in use before any training."""
    training, context = 10 * GIB, GIB // 2
    rounds: list[str] = []

    def all_of(_pool: object, num: int, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
        rounds.append(next(name for name in ("configs", "is_idle", "starts_at") if name in payload))
        if "configs" in payload:
            return [{"trial_bytes": training, "used_bytes": 2 * (context + training), "total_bytes": 40 * GIB}] * num
        return [{"used_bytes": 2 * context, "total_bytes": 40 * GIB} if "is_idle" in payload else {"steps": 5}] * num

    monkeypatch.setattr(gpu_sharing, "_all", all_of)
    monkeypatch.setattr(gpu_sharing, "WorkerPool", lambda *_, **__: contextlib.nullcontext())
    found = measure_sharing(
        2,
        slot=Slot(threads=1),
        experiment=experiment_on("digits"),
        space=load_space("nexception"),
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
    )
    assert rounds == ["configs", "is_idle", "starts_at"]
    assert found.used_bytes == 2 * context and found.fits


def test_a_measurement_does_not_look_at_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, space = experiment_on("digits"), load_space("nexception")
    task = TrialTask(
        trial_id=0,
        space=space.origin,
        config=space.default_config(),
        fidelity=1.0,
        seed=0,
        recipe=experiment.recipe,
        width=experiment.width,
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
    )
    monkeypatch.setattr(time, "time", lambda: 1e12)
    looks = itertools.count()  # a clock that goes on whenever it is looked at, however busy the machine is
    monkeypatch.setattr(time, "monotonic", lambda: float(next(looks)))
    found = gpu_sharing.probe({"task": task.to_dict(), "starts_at": 4.0, "ends_at": 20.0})
    assert found["steps"] > 0


def test_a_run_measures_once_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, notices, asked = RunDirectory(path=tmp_path / "planned"), list[str](), list[int]()
    monkeypatch.setattr(gpu_sharing, "cuda_devices", lambda: ["0", "1"])
    monkeypatch.setattr("naxcli.workers.slots.cuda_devices", lambda: ["0", "1"])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4), raising=False)

    def measure(num: int, **_: object) -> SharedDevice:
        asked.append(num)
        return device({1: 10, 2: 19, 4: 20})(num)

    monkeypatch.setattr(gpu_sharing, "measure_sharing", measure)
    request = DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2)
    experiment, space = experiment_on("digits", budget="3d"), load_space("nexception")
    for _ in range(2):
        slots = slots_of_run(experiment, space, request, run, notices.append)
        assert [slot.cuda_device for slot in slots] == ["0", "1", "0", "1"]
    assert asked == [1, 2, 4] and len(notices) == 2
    assert json.loads((run.path / "trials_per_gpu.json").read_text())["per_device"] == 2
    (run.path / "trials_per_gpu.json").rename(run.path / "packing.json")  # as earlier versions called it
    assert len(slots_of_run(experiment, space, request, run, notices.append)) == 4 and asked == [1, 2, 4]
    short = slots_of_run(
        experiment_on("digits", budget="10m"), space, request, RunDirectory(path=tmp_path / "b"), notices.append
    )
    # Of ten minutes the measurement would be too large a share.
    assert [slot.cuda_device for slot in short] == ["0", "1", "0", "1"] and asked == [1, 2, 4]
    confirmed = measured_slots(run, workers="auto", threads=1)
    assert [slot.cuda_device for slot in confirmed] == ["0", "1", "0", "1"]
    assert len(measured_slots(RunDirectory(path=tmp_path / "b"), workers="auto", threads=1)) == 2
    assert len(slots_of_run(experiment_on("digits", workers="3"), space, request, run, notices.append)) == 3
