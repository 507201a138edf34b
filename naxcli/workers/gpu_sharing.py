"""How many trials share a GPU, from their measured memory and their measured speed-up.

Before a run's first trial, one, two, four and eight processes train side by side on one GPU for a few seconds each, and their steps are
counted within the same window of time. Doubling goes on as long as it gains at least `MIN_GAIN` in all processes' steps together and the
memory holds the hungriest of a few random configurations in every process. What was measured stays in the run directory, so that a
resumed run has as many workers as before.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import guard_disk, write_atomically
from naxcli.search_space.contract import Space, plain_config
from naxcli.settings.experiment import Experiment
from naxcli.settings.units import counted
from naxcli.workers.pool import Slot, WorkerPool, cuda_devices, local_slots
from naxcli.workers.task import DataRequest, TrialTask

NUM_PROCESSES = (1, 2, 4, 8)
MIN_GAIN = 1.1
MEMORY_SHARE = 0.9
NUM_MEMORY_CONFIGS = 6
NUM_MEMORY_STEPS = 3
WINDOW_SECONDS = 6.0
# Building, the first kernels and the CUDA graph happen before the window.
WARM_UP_SECONDS = 8.0
# The measurement takes about this long; a budget of which it would be more than `MAX_SHARE` goes without.
EXPECTED_SECONDS = 90.0
MAX_SHARE = 0.05

Measure = Callable[[int], "Packing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What so many processes on one device did together.

    Args:
        num: processes.
        steps_per_second: optimizer steps of all processes together.
        used_bytes: memory of the device that the processes take before their trainings, contexts and data included.
        trial_bytes: memory of the hungriest configuration's training.
        total_bytes: memory of the device.
    """

    num: int
    steps_per_second: float
    used_bytes: int
    trial_bytes: int
    total_bytes: int

    @property
    def fits(self) -> bool:
        return self.used_bytes + self.num * self.trial_bytes <= MEMORY_SHARE * self.total_bytes


def slots_of_run(
    experiment: Experiment, space: Space, data: DataRequest | None, run: RunDirectory, notice: Callable[[str], None]
) -> list[Slot]:
    """Return the local slots of a run: as many as asked for; with `auto`, several per GPU where that was measured to gain."""
    slots = local_slots(workers=experiment.workers, threads=experiment.threads)
    devices = cuda_devices()
    if experiment.workers != "auto" or experiment.cluster is not None or not devices or data is None:
        return slots
    file = run.packing_file
    stored = run.read_json(file)
    if stored.get("devices") == devices:
        return local_slots(workers=stored["per_device"] * len(devices), threads=experiment.threads)
    if experiment.budget_seconds is not None and experiment.budget_seconds * MAX_SHARE < EXPECTED_SECONDS:
        return slots
    notice(f"measuring how many trials a GPU holds, about {EXPECTED_SECONDS:.0f} s; --workers N goes without")

    def measure(num: int) -> Packing:
        return measure_packing(num, slot=slots[0], experiment=experiment, space=space, data=data)

    num, measured = trials_per_device(measure)
    values = [
        {
            "num": item.num,
            "steps_per_second": item.steps_per_second,
            "used_bytes": item.used_bytes,
            "trial_bytes": item.trial_bytes,
            "total_bytes": item.total_bytes,
        }
        for item in measured
    ]
    with guard_disk(run.path):  # a plan has no run yet
        run.path.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"per_device": num, "devices": devices, "measured": values}, indent=1))
    rates = ", ".join(f"{item.num}: {item.steps_per_second:.1f}" for item in measured)
    notice(f"{counted(num, 'trial')} per GPU (steps a second by number of trials: {rates})")
    return local_slots(workers=num * len(devices), threads=experiment.threads)


def trials_per_device(measure: Measure) -> tuple[int, list[Packing]]:
    """Return the number of trials that share a device, and what was measured on the way to it."""
    measured = [measure(NUM_PROCESSES[0])]
    for num in NUM_PROCESSES[1:]:
        best = measured[-1]
        # Contexts and data grow with the processes: so do the bytes in use before a training.
        used = best.used_bytes * num / best.num
        if used + num * best.trial_bytes > MEMORY_SHARE * best.total_bytes:
            break
        measured.append(measure(num))
        if not measured[-1].fits or measured[-1].steps_per_second < MIN_GAIN * best.steps_per_second:
            return best.num, measured
    return measured[-1].num, measured


def measure_packing(
    num: int,
    *,
    slot: Slot,
    experiment: Experiment,
    space: Space,
    data: DataRequest,
    warm_up_seconds: float = WARM_UP_SECONDS,
    window_seconds: float = WINDOW_SECONDS,
) -> Packing:
    """Return what `num` processes that train the space's default configuration on the slot's device do together.

    Raises:
        NaxcliError: if a process dies, or no training is faster than the window.
    """
    sampled = space.configuration_space(experiment.seed).sample_configuration(NUM_MEMORY_CONFIGS)
    configs = [space.canonicalise(plain_config(config)) for config in sampled]
    task = TrialTask(
        trial_id=0,
        space=space.origin,
        config=space.default_config(),
        fidelity=1.0,
        seed=experiment.seed,
        data=data,
        width=experiment.width,
        recipe=experiment.recipe,
        threads=slot.threads,
    )
    with WorkerPool(probe, slots=[slot] * num) as pool:
        # Every process loads data and kernels, and the hungriest configuration shows.
        memory = _all(pool, num, {"task": task.to_dict(), "configs": configs})
        starts_at = time.monotonic() + warm_up_seconds  # one clock for all processes of a machine
        window = {"starts_at": starts_at, "ends_at": starts_at + window_seconds}
        speed = _all(pool, num, {"task": task.to_dict(), **window})
    steps = sum(result["steps"] for result in speed)
    if not steps:
        raise NaxcliError(f"no step ended within {window_seconds:g} s", hint="--workers N does without the measurement")
    return Packing(
        num=num,
        steps_per_second=steps / window_seconds,
        used_bytes=max(result["used_bytes"] for result in memory),
        trial_bytes=max(result["trial_bytes"] for result in memory),
        total_bytes=memory[0]["total_bytes"],
    )


def _all(pool: WorkerPool, num: int, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of one task on each of `num` workers, started together."""
    results: list[dict[str, Any]] = []
    started = 0
    while len(results) < num:
        while started < num and (worker := pool.free_worker()) is not None:
            pool.submit(started, payload, worker=worker)
            started += 1
        for finished in pool.wait(0.1):
            if not isinstance(finished.outcome, dict):
                raise NaxcliError(
                    "the measurement of trials per GPU failed",
                    why=str(finished.outcome),
                    hint="--workers N does without it",
                )
            results.append(finished.outcome)
    return results


def probe(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Train on a worker: a few steps of each of `configs`, for their memory, or for a window of time, counting steps."""
    import torch

    from naxcli.training.loop import seed_everything, train
    from naxcli.workers.evaluate import load_task_data, return_memory

    task = TrialTask.from_dict(payload["task"])
    assert task.recipe is not None and task.data is not None
    torch.set_num_threads(task.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    space, dataset = load_task_data(task)
    assert space.build is not None

    def trained(config: Mapping[str, Any], on_step: Callable[[float], None], should_stop: Callable[[], bool]) -> int:
        assert space.build is not None and task.recipe is not None
        seed_everything(task.seed)
        network = space.build(
            dict(config),
            num_classes=dataset.num_classes,
            in_channels=dataset.in_channels,
            image_size=dataset.image_size,
            width=task.width,
        )
        # Far more epochs than there is time for.
        outcome = train(
            network,
            dataset,
            task.recipe,
            epochs=10_000.0,
            seed=task.seed,
            device=device,
            on_step=on_step,
            should_stop=should_stop,
        )
        return_memory()
        return outcome.peak_memory_bytes or 0

    if "configs" in payload:
        peaks = []
        for config in payload["configs"]:
            steps = itertools.count()
            peaks.append(trained(config, lambda _epochs: None, functools.partial(_reaches, steps, NUM_MEMORY_STEPS)))
        used, total = _device_memory(device)
        return {"trial_bytes": max(peaks), "used_bytes": used, "total_bytes": total}

    num_steps, num_before = 0, None

    def synchronise() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def counted(_epochs: float) -> None:
        nonlocal num_steps, num_before
        if num_before is None and time.monotonic() >= payload["starts_at"]:
            synchronise()
            num_before = num_steps
        num_steps += 1

    def is_over() -> bool:
        if time.monotonic() < payload["ends_at"]:
            return False
        synchronise()
        return True

    trained(task.config, counted, is_over)
    return {"steps": 0 if num_before is None else num_steps - num_before}


def _reaches(steps: Iterator[int], limit: int) -> bool:
    return next(steps) >= limit


def _device_memory(device: Any) -> tuple[int, int]:
    """Return the bytes in use and in all: of the GPU by all processes, of this machine where there is none."""
    import torch

    from naxcli.data.residency import available_memory_bytes

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total - (available_memory_bytes() or 0), total
