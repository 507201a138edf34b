"""How many trials share a GPU, from their measured memory and their measured speed-up.

Before a run's first trial, one, two, four and eight processes train side by side on one GPU for a few seconds each, and their steps are
counted within the same window of time. Doubling goes on as long as it gains at least `MIN_GAIN` in all processes' steps together and the
memory holds, in every process, the most demanding of a few random configurations. What was measured stays in the run directory, so
that a resumed run has as many workers as before. A run too short for the measurement has `UNMEASURED_PER_DEVICE`.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from naxcli.errors import NaxcliError
from naxcli.records.directory import RunDirectory
from naxcli.records.files import guard_disk, write_atomically
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, plain_config
from naxcli.settings.experiment import Experiment
from naxcli.settings.units import counted
from naxcli.workers.batch import run_payloads
from naxcli.workers.pool import WorkerPool
from naxcli.workers.slots import Slot, cuda_devices, local_slots
from naxcli.workers.task import DataRequest, TrialTask

if TYPE_CHECKING:
    import torch

NUM_PROCESSES = (1, 2, 4, 8)
MIN_GAIN = 1.1
MEMORY_SHARE = 0.9
NUM_MEMORY_CONFIGS = 6
NUM_MEMORY_STEPS = 3
WINDOW_SECONDS = 6.0
# In which networks are built, kernels loaded and the CUDA graph captured, before the window.
WARM_UP_SECONDS = 8.0
# The measurement takes about this long; a budget of which it would be more than `MAX_SHARE` goes without.
EXPECTED_SECONDS = 90.0
MAX_SHARE = 0.05
# Alone, a trial leaves its GPU idle while it is built, validated and recorded.
UNMEASURED_PER_DEVICE = 2

Measure = Callable[[int], "SharedDevice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDevice:
    """What a number of processes on one device did together.

    Args:
        num: Number of processes.
        steps_per_second: Optimizer steps of all processes together per second.
        used_bytes: Memory of the device that the processes take before their trainings, contexts and data included.
        trial_bytes: Memory of the training of the configuration that needs most.
        total_bytes: Memory of the device.
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
    """Return the local slots of a run: as many as asked for; with `auto`, several per GPU where that measured faster."""
    slots = measured_slots(run, workers=experiment.workers, threads=experiment.threads)
    devices = cuda_devices()
    if experiment.workers != "auto" or experiment.cluster is not None or not devices or data is None:
        return slots
    if _is_measured(run, devices):
        return slots
    if experiment.budget_seconds is not None and experiment.budget_seconds * MAX_SHARE < EXPECTED_SECONDS:
        cores_per_device = local_slots(workers="auto", threads=None)[0].threads
        num = min(UNMEASURED_PER_DEVICE, cores_per_device)
        notice(
            f"{counted(num, 'trial')} per GPU, which a budget this short does not measure; --workers N is another number"
        )
        return local_slots(workers=num * len(devices), threads=experiment.threads)
    notice(f"measuring how many trials a GPU holds, about {EXPECTED_SECONDS:.0f} s; --workers N goes without")

    def measure(num: int) -> SharedDevice:
        return measure_sharing(num, slot=slots[0], experiment=experiment, space=space, data=data)

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
    write_atomically(
        run.trials_per_gpu_file, json.dumps({"per_device": num, "devices": devices, "measured": values}, indent=1)
    )
    rates = ", ".join(f"{item.num}: {item.steps_per_second:.1f}" for item in measured)
    notice(f"{counted(num, 'trial')} per GPU (steps a second by number of trials: {rates})")
    return local_slots(workers=num * len(devices), threads=experiment.threads)


def measured_slots(run: RunDirectory, *, workers: int | str, threads: int | None) -> list[Slot]:
    """Return local slots for a run's trainings: as many as asked for; with `auto` as many per GPU as its search measured, or one."""
    devices = cuda_devices()
    if workers == "auto" and _is_measured(run, devices):
        return local_slots(workers=run.trials_per_gpu()["per_device"] * len(devices), threads=threads)
    return local_slots(workers=workers, threads=threads)


def _is_measured(run: RunDirectory, devices: list[str]) -> bool:
    return bool(devices) and run.trials_per_gpu().get("devices") == devices


def trials_per_device(measure: Measure) -> tuple[int, list[SharedDevice]]:
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


def measure_sharing(
    num: int,
    *,
    slot: Slot,
    experiment: Experiment,
    space: Space,
    data: DataRequest,
    warm_up_seconds: float = WARM_UP_SECONDS,
    window_seconds: float = WINDOW_SECONDS,
) -> SharedDevice:
    """Return what `num` processes that train the space's default configuration on the slot's device do together.

    Args:
        num: Number of processes.
        slot: Device and CPU threads of each process.
        experiment: Recipe, width and seed of the trainings.
        space: Space whose configurations are trained.
        data: Images to train on.
        warm_up_seconds: Time before the steps are counted.
        window_seconds: Time in which the steps are counted.

    Raises:
        NaxcliError: If a process dies, or no step ends within the window.
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
        uses_kernels=experiment.uses_kernels,
    )
    with WorkerPool(probe, slots=[slot] * num) as pool:
        # Loads data and kernels in every process, and finds the configuration that needs most memory.
        memory = _all(pool, num, {"task": task.to_dict(), "configs": configs})
        # Once all of them have ended: what a process sees in use is that of all together.
        device_memory = _all(pool, 1, {"task": task.to_dict(), "is_idle": True})[0]
        starts_at = time.monotonic() + warm_up_seconds  # one clock for all processes of a machine
        window = {"starts_at": starts_at, "ends_at": starts_at + window_seconds}
        speed = _all(pool, num, {"task": task.to_dict(), **window})
    steps = sum(result["steps"] for result in speed)
    if not steps:
        raise NaxcliError(f"no step ended within {window_seconds:g} s", hint="--workers N does without the measurement")
    return SharedDevice(
        num=num,
        steps_per_second=steps / window_seconds,
        trial_bytes=max(result["trial_bytes"] for result in memory),
        **device_memory,
    )


def _all(pool: WorkerPool, num: int, payload: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of one task on each of `num` workers, started together."""
    results: list[dict[str, Any]] = []
    for finished in run_payloads(pool, ((index, payload) for index in range(num))):
        if not isinstance(finished.outcome, dict):
            raise NaxcliError(
                "the measurement of trials per GPU failed",
                why=str(finished.outcome),
                hint="--workers N does without it",
            )
        results.append(finished.outcome)
    return results


def probe(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Train on a worker: a few steps of each of `configs`, for their memory, or for a window of time, counting steps.

    With `is_idle` nothing is trained: the memory in use is read.
    """
    import torch

    from naxcli.measure.devices import device_of_worker

    task = TrialTask.from_dict(payload["task"])
    torch.set_num_threads(task.threads)
    device = device_of_worker()
    if "is_idle" in payload:
        used, total = _device_memory(device)
        return {"used_bytes": used, "total_bytes": total}
    if "configs" in payload:
        return _probe_memory(task, payload["configs"], device)
    return _probe_speed(task, device, starts_at=payload["starts_at"], ends_at=payload["ends_at"])


def _probe_memory(task: TrialTask, configs: Sequence[Config], device: torch.device) -> dict[str, Any]:
    peaks = []
    for config in configs:
        steps = itertools.count()
        should_stop = functools.partial(_reaches, steps, NUM_MEMORY_STEPS)
        peaks.append(_train_until(task, config, device, on_step=lambda _epochs: None, should_stop=should_stop))
    return {"trial_bytes": max(peaks)}


def _probe_speed(task: TrialTask, device: torch.device, *, starts_at: float, ends_at: float) -> dict[str, Any]:
    from naxcli.measure.devices import synchronise

    num_steps, num_before = 0, None

    def count(_epochs: float) -> None:
        nonlocal num_steps, num_before
        if num_before is None and time.monotonic() >= starts_at:
            synchronise(device)
            num_before = num_steps
        num_steps += 1

    def is_over() -> bool:
        if time.monotonic() < ends_at:
            return False
        synchronise(device)
        return True

    _train_until(task, task.config, device, on_step=count, should_stop=is_over)
    return {"steps": 0 if num_before is None else num_steps - num_before}


def _train_until(
    task: TrialTask,
    config: Config,
    device: torch.device,
    *,
    on_step: Callable[[float], None],
    should_stop: Callable[[], bool],
) -> int:
    """Train a configuration until `should_stop` says so, and return its peak of memory in bytes, that kept from others on CUDA."""
    from naxcli.search_space.networks import build_network
    from naxcli.training.loop import seed_everything, train
    from naxcli.training.request import TrainingRequest
    from naxcli.workers.evaluate import load_task_data, return_memory

    assert task.recipe is not None
    space, dataset = load_task_data(task)
    recipe = task.recipe.with_choices(config)
    seed_everything(task.seed)
    network = build_network(
        space,
        dict(config),
        num_classes=dataset.num_classes,
        in_channels=dataset.in_channels,
        image_size=recipe.resolution or dataset.image_size,
        width=task.width,
    )
    # Far more epochs than there is time for.
    request = TrainingRequest(
        recipe=recipe, epochs=10_000.0, seed=task.seed, device=device, uses_kernels=task.uses_kernels
    )
    outcome = train(network, dataset, request, on_step=on_step, should_stop=should_stop)
    del network
    return_memory()
    return outcome.reserved_memory_bytes or outcome.peak_memory_bytes or 0


def _reaches(steps: Iterator[int], limit: int) -> bool:
    return next(steps) >= limit


def _device_memory(device: torch.device) -> tuple[int, int]:
    """Return the bytes in use and in all: of the GPU by all processes, of this machine where there is none."""
    import torch

    from naxcli.data.memory_fit import available_memory_bytes

    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free, total
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total - (available_memory_bytes() or 0), total
