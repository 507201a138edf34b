"""Pace: how long one more trial takes at least, so that none is started that could not end within the budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from naxcli.records.history import FinishedTrial
from naxcli.records.trial import Status

NUM_RECENT = 50
# The first trial of a worker process may take so much longer than its next: libraries imported late, kernels chosen, caches filled.
MAX_WARM_UP_SECONDS = 60.0


class Pace:
    """The lengths of the last successes. Those that were their worker's first tell little, for they have its warm-up in them."""

    def __init__(self, finished: Iterable[FinishedTrial] = ()) -> None:
        self._warm_workers: set[str] = set()
        self._recent: deque[tuple[float, bool]] = deque(
            maxlen=NUM_RECENT
        )  # seconds, and whether there is warm-up in them
        for item in finished:
            self.add(item)

    def add(self, item: FinishedTrial) -> None:
        """Take one more trial into account, whatever its result."""
        is_first = item.worker is not None and item.worker not in self._warm_workers
        if item.worker is not None:
            self._warm_workers.add(item.worker)
        if item.status == Status.SUCCESS:
            self._recent.append((item.seconds, is_first))

    def longest_seconds(self) -> float:
        """Return the longest time of the last trials without warm-up, infinite where there is none."""
        return max((seconds for seconds, is_first in self._recent if not is_first), default=math.inf)

    def shortest_seconds(self) -> float:
        """Return the shortest time of the last trials, 0 where nothing is known; where all have warm-up in them, without it.

        A trial as short as any other was not lengthened by its warm-up.
        """
        shortest = min((seconds for seconds, _ in self._recent), default=0.0)
        return shortest if math.isfinite(self.longest_seconds()) else max(0.0, shortest - MAX_WARM_UP_SECONDS)
