"""Where trials run on this machine: slots of CPU threads, pinned to the GPUs that are there."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from naxcli.measure.devices import named_devices
from naxcli.records.environment import output_of

DEVICE_FOLDER, DRIVER_FOLDER = Path("/dev"), Path("/proc/driver/nvidia/gpus")


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
    named = named_devices()
    if named is not None:
        return named
    # A container sees the device files of its own GPUs only, or none; the driver's folder lists the machine's, or is missing.
    found = [path for path in DEVICE_FOLDER.glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]
    num = len(found) or _num_listed_devices() or len(list(DRIVER_FOLDER.glob("*")))
    return [str(index) for index in range(num)]


@functools.cache
def _num_listed_devices() -> int:
    """Return the number of GPUs that the driver's own tool lists, such as `GPU 0: NVIDIA H200 (UUID: GPU-...)`."""
    return sum(line.startswith("GPU ") for line in (output_of("nvidia-smi", "-L") or "").splitlines())
