"""time_until_stable: how long one call takes, how far its repetitions spread, and whether the machine was busy with other things."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
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
        seconds: median of the repetitions.
        spread: their interquartile range as a share of the median.
        num_repetitions: of the call, or of a block of calls where one is too short for the clock.
        num_threads: of torch.
        num_cpus: of the machine.
        load: CPUs that other processes kept busy meanwhile, on average; None where the system does not tell.
    """

    seconds: float
    spread: float
    num_repetitions: int
    num_threads: int
    num_cpus: int
    load: float | None

    @property
    def why_unstable(self) -> str:
        """Why the median would be another one next time, empty where it is worth recording."""
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
    """Return how long a call takes, repeated until the repetitions agree or the time is over; warm-up is not counted.

    Args:
        call: what is measured, with as many threads as torch has.
        min_seconds: of repetitions, at least.
        max_seconds: of repetitions; at least one is made.
        timer: clock in seconds, synchronised with the device.
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
    """Return the CPU time that everything but this process took since the machine started, None where only Linux would tell."""
    if not _STAT_FILE.exists():
        return None
    # user, nice, system, idle, waiting for disks, two kinds of interrupts, stolen by other virtual machines; man 5 proc
    ticks = [int(number) for number in _STAT_FILE.read_text().split("\n", maxsplit=1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") - time.process_time()
