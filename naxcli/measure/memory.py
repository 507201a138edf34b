"""PeakMemory: the largest memory of one trial inside a process that lives for many."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

_RESET_PEAK = "5"  # of /proc/<pid>/clear_refs, proc(5)


class PeakMemory:
    """Measures from its construction on: the allocator's peak on CUDA, the process's resident peak on a CPU (Linux only)."""

    def __init__(self, device: torch.device | str) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            # On another system, or without the right, the peak is then that of the whole process.
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text(_RESET_PEAK)

    def forget_first_step(self) -> None:
        """Measure from here on where cuDNN has searched for its plans in the first step, which takes more than a step does."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)

    def read_reserved(self) -> int | None:
        """Return the peak of what torch's allocator kept from other processes on CUDA, in bytes; None on a CPU."""
        return torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else None

    def read(self) -> int | None:
        """Return the peak in bytes, None where the system does not report it."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return None
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
