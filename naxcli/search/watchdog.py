"""Watchdog: which running trials still send heartbeats, and which hang.

A training sends a heartbeat with its steps and epochs. An objective of a space's own gives none, and is compared with those that ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from naxcli.records.trial import Trial

# A trial hangs when it is silent for this many times the longest epoch, and at least this long; before its first heartbeat, when a
# worker may be reading a large data set, longer.
SILENCE_FACTOR = 10.0
SILENCE_MIN_SECONDS = 600.0
START_MIN_SECONDS = 3600.0


class Watchdog:
    """When each running trial started and was heard, by the monotonic clock.

    Args:
        sends_heartbeats: Whether trials are trainings, which send heartbeats.
        ended: (trial, seconds) of those that ended in earlier sessions.
    """

    def __init__(self, *, sends_heartbeats: bool, ended: Iterable[tuple[Trial, float]] = ()) -> None:
        self._sends_heartbeats = sends_heartbeats
        self._started_at: dict[int, float] = {}
        self._heard_at: dict[int, float] = {}
        self._begun: set[int] = set()
        self._longest_epoch = 0.0
        self._longest_trial: float | None = None
        self._longest_per_fidelity = 0.0
        for trial, seconds in ended:
            self._note_length(trial, seconds)

    def started(self, trial: Trial) -> None:
        self._started_at[trial.trial_id] = time.monotonic()
        self._heard_at.pop(trial.trial_id, None)
        self._begun.discard(trial.trial_id)

    def begun(self, trial_id: int) -> None:
        """Note that a worker has loaded what it loads once, and begins with the trial itself: its time counts from here."""
        self._started_at[trial_id] = time.monotonic()
        self._begun.add(trial_id)

    def heard(self, trial_id: int, *, epoch_seconds: float | None = None) -> None:
        """Note a heartbeat: the end of an epoch, or a step within one."""
        self._heard_at[trial_id] = time.monotonic()
        self._longest_epoch = max(self._longest_epoch, epoch_seconds or 0.0)

    def ended(self, trial: Trial, seconds: float) -> None:
        """Forget a trial that ended after so many seconds, whatever its result."""
        self._note_length(trial, seconds)
        self._heard_at.pop(trial.trial_id, None)
        self._begun.discard(trial.trial_id)

    def seconds(self, trial: Trial) -> float:
        """Return for how long a trial has been running."""
        return time.monotonic() - self._started_at[trial.trial_id]

    def is_over(self, trial: Trial, timeout_seconds: float) -> bool:
        """Return whether a trial has run for longer than a time-out; until it has begun it gets the time of a worker's start."""
        start = 0.0 if trial.trial_id in self._begun else SILENCE_MIN_SECONDS
        return self.seconds(trial) > timeout_seconds + start

    def allowed_silence_exceeded(self, trial: Trial) -> float | None:
        """Return the seconds without a heartbeat that a trial is allowed, if it has exceeded them; None of one that has not."""
        last = self._heard_at.get(trial.trial_id, self._started_at[trial.trial_id])
        longest = self._longest_silence(trial)
        return longest if time.monotonic() - last > longest else None

    def _longest_silence(self, trial: Trial) -> float:
        if trial.trial_id in self._heard_at:
            return max(SILENCE_MIN_SECONDS, SILENCE_FACTOR * self._longest_epoch)
        if self._sends_heartbeats:
            return max(START_MIN_SECONDS, SILENCE_FACTOR * self._longest_epoch)
        if self._longest_trial is None:
            return math.inf
        longest = max(self._longest_trial, self._longest_per_fidelity * trial.fidelity)
        return max(START_MIN_SECONDS, SILENCE_FACTOR * longest)

    def _note_length(self, trial: Trial, seconds: float) -> None:
        self._longest_trial = max(self._longest_trial or 0.0, seconds)
        self._longest_per_fidelity = max(self._longest_per_fidelity, seconds / trial.fidelity)
