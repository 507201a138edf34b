"""time_until_stable: the time of one call, the spread of its repetitions, and the load of the machine meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@contextlib.contextmanager
def _without_cuda_warning() -> Iterator[None]:
    """Keep the block's import of torch's extension builder from warning of a CUDA toolkit without a GPU: nothing is built."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.addFilter(_is_worth_showing)
    try:
        yield
    finally:
        logger.removeFilter(_is_worth_showing)


def _is_worth_showing(record: logging.LogRecord) -> bool:
    return "No CUDA runtime is found" not in record.getMessage()


with _without_cuda_warning():
    from torch.utils import benchmark

LARGEST_SPREAD = 0.1
"""Interquartile range of the repetitions, as a share of their median, above which the median is not worth recording."""
LEAST_FREE_CPUS_PER_THREAD = 0.8
"""CPUs that other processes have to leave for each of torch's threads."""

_STAT_FILE = Path("/proc/stat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long one call takes.

    Args:
        seconds: Median of the repetitions.
        spread: Interquartile range of the repetitions as a share of the median.
        num_repetitions: Number of times that the call, or a block of calls too short for the clock, was timed.
        num_threads: CPU threads of torch.
        num_cpus: CPUs of the machine.
        load: CPUs that other processes kept busy meanwhile, on average; None where the system does not report it.
    """

    seconds: float
    spread: float
    num_repetitions: int
    num_threads: int
    num_cpus: int
    load: float | None

    @property
    def why_unstable(self) -> str:
        """Why the median would differ next time, empty where it is worth recording."""
        if self.load is not None and self.num_cpus - self.load < LEAST_FREE_CPUS_PER_THREAD * self.num_threads:
            return f"other processes kept {self.load:.1f} of {self.num_cpus} CPUs busy"
        if not self.spread <= LARGEST_SPREAD:
            return (
                f"the middle half of {self.num_repetitions} repetitions spreads over {self.spread:.0%} of their median "
                f"({LARGEST_SPREAD:.0%} at most)"
            )
        return ""


def time_until_stable(
    call: Callable[[], Any],
    *,
    min_seconds: float,
    max_seconds: float,
    timer: Callable[[], float] = benchmark.timer,
) -> Timing:
    """Return the time of a call, repeated until the repetitions agree or the time is over; warm-up is not counted.

    Args:
        call: Function to time, with as many threads as torch has.
        min_seconds: Least time to spend on repetitions.
        max_seconds: Time after which no further repetition begins.
        timer: Clock in seconds, synchronised with the device.
    """
    stopwatch = benchmark.Timer("call()", globals={"call": call}, timer=timer, num_threads=torch.get_num_threads())
    others, started = _cpu_seconds_of_others(), time.perf_counter()
    measured = stopwatch.adaptive_autorange(LARGEST_SPREAD, min_run_time=min_seconds, max_run_time=max_seconds)
    others_after, elapsed = _cpu_seconds_of_others(), time.perf_counter() - started
    num_cpus = os.cpu_count() or 1
    # The system counts in hundredths of a second, which may add up to a little less or more than there is.
    load = (
        None if others is None or others_after is None else min(max(0.0, (others_after - others) / elapsed), num_cpus)
    )
    return Timing(
        seconds=measured.median,
        spread=measured.iqr / measured.median,
        num_repetitions=len(measured.times),
        num_threads=torch.get_num_threads(),
        num_cpus=num_cpus,
        load=load,
    )


def _cpu_seconds_of_others() -> float | None:
    """Return the CPU time that all other processes took since the machine started, None where the system is not Linux."""
    if not _STAT_FILE.exists():
        return None
    # user, nice, system, idle, waiting for disks, two kinds of interrupts, stolen by other virtual machines; man 5 proc
    ticks = [int(number) for number in _STAT_FILE.read_text().split("\n", maxsplit=1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - time.process_time()
