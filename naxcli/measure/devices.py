"""Devices by name: which one a command computes on, and what a person calls it."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from naxcli.errors import NaxcliError
from naxcli.records.environment import processor_name

if TYPE_CHECKING:
    import torch


def choose_device(name: str, *, num_processes: int = 1) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means for this process, one of `num_processes` of a training.

    Raises:
        NaxcliError: If there is no such device, or no GPU of its own for this process.
    """
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise NaxcliError(f"there is no device {name!r}", hint="auto, cpu or cuda")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NaxcliError("there is no CUDA device", why="torch finds none", hint="--device cpu")
    if num_processes == 1:
        return torch.device("cuda")
    index = int(os.environ.get("LOCAL_RANK", "0"))
    if index >= torch.cuda.device_count():
        raise NaxcliError(
            f"there is no GPU for process {index + 1} of this machine", hint="torchrun --nproc-per-node NUMBER_OF_GPUS"
        )
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def named_devices() -> list[str] | None:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names for this process, None where it is not set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return None
    names = [device.strip() for device in visible.split(",")]
    return [name for name in names if name not in ("", "-1", "NoDevFiles")]  # the last is SLURM's of a job without GPUs


def device_of_worker() -> torch.device:
    """Return the device that this worker process trains on: the GPU that torch finds, else the CPU.

    Raises:
        NaxcliError: If the worker was given a GPU that torch does not find: on the CPU a trial would take a hundred times as long.
    """
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    if given := named_devices():
        raise NaxcliError(
            f"a worker was given the GPU {', '.join(given)}, and torch finds none",
            why="torch was built without CUDA"
            if torch.version.cuda is None
            else "the driver or the device does not answer",
            hint="nvidia-smi tells of the device; CUDA_VISIBLE_DEVICES= before the command trains on the CPU",
        )
    return torch.device("cpu")


def set_tf32(is_allowed: bool) -> None:
    """Say whether CUDA devices may round the float32 operands of this process's matrix products and convolutions to TF32.

    Torch's own setting is TF32 for convolutions and float32 for matrix products.
    """
    import torch

    with warnings.catch_warnings():
        # The newer names of these settings leave the older ones contradictory, at which parts of torch raise.
        warnings.filterwarnings("ignore", message=".*TF32", category=UserWarning)
        torch.backends.cudnn.allow_tf32 = is_allowed
        torch.backends.cuda.matmul.allow_tf32 = is_allowed


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """Return the device as a person calls it, the number of CPU threads with it."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name() or 'cpu'}, {torch.get_num_threads()} thread(s)"
