"""Pace: how long one more trial takes at least, so that none is started that could not end within the budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from naxcli.records import FinishedTrial
from naxcli.trial import Status

NUM_RECENT = 50
# The first trial of a worker process may take so much longer than its next: libraries imported late, kernels chosen, caches filled.
MAX_WARM_UP_SECONDS = 60.0


class Pace:
    """The lengths of the last successes. Those that were their worker's first tell little, for they have its warm-up in them."""

    def __init__(self, finished: Iterable[FinishedTrial] = ()) -> None:
        self._warm_workers: set[str] = set()
        self._seconds: deque[float] = deque(maxlen=NUM_RECENT)
        self._seconds_of_first: deque[float] = deque(maxlen=NUM_RECENT)
        for item in finished:
            self.add(item)

    def add(self, item: FinishedTrial) -> None:
        """Take one more trial into account, whatever its result."""
        is_first = item.worker is not None and item.worker not in self._warm_workers
        if item.worker is not None:
            self._warm_workers.add(item.worker)
        if item.status == Status.SUCCESS:
            (self._seconds_of_first if is_first else self._seconds).append(item.seconds)

    def longest_seconds(self) -> float:
        """Return the longest time of the last trials without warm-up, infinite where nothing is known."""
        return max(self._seconds, default=math.inf)

    def shortest_seconds(self) -> float:
        """Return the shortest time of the last trials without warm-up, 0 where nothing is known."""
        if self._seconds:
            return min(self._seconds)
        return max(0.0, min(self._seconds_of_first, default=0.0) - MAX_WARM_UP_SECONDS)
