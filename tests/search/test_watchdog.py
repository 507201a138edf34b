"""How long a trial may take, and may be silent, before it is taken to hang."""

from __future__ import annotations

import pytest

from naxcli.records.trial import Suggestion, Trial
from naxcli.search.watchdog import SILENCE_MIN_SECONDS, START_MIN_SECONDS, Watchdog


class Clock:
    """The time that passes for a watchdog."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        patch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def trial_of(number: int, *, fidelity: float = 9.0) -> Trial:
    return Trial(trial_id=number, suggestion=Suggestion(config={}, fidelity=fidelity, seed=0), searcher="smac")


def test_a_training_may_be_silent_for_longer_before_its_first_step_than_after(clock: Clock) -> None:
    trial, training = trial_of(1), Watchdog(sends_heartbeats=True)
    training.started(trial)
    clock.now = START_MIN_SECONDS - 1
    assert training.allowed_silence_exceeded(trial) is None
    clock.now = START_MIN_SECONDS + 1
    assert training.allowed_silence_exceeded(trial) == START_MIN_SECONDS
    training.heard(1)
    clock.now += SILENCE_MIN_SECONDS + 1
    assert training.allowed_silence_exceeded(trial) == SILENCE_MIN_SECONDS
    training.heard(1, epoch_seconds=SILENCE_MIN_SECONDS)
    clock.now += 9 * SILENCE_MIN_SECONDS
    assert training.allowed_silence_exceeded(trial) is None


def test_a_time_out_counts_from_where_the_trial_begins(clock: Clock) -> None:
    """Not from where its worker begins to load libraries and images."""
    trial, training = trial_of(1), Watchdog(sends_heartbeats=True)
    training.started(trial)
    clock.now = 100.0
    assert not training.is_over(trial, 60.0)
    training.begun(1)
    clock.now = 159.0
    assert not training.is_over(trial, 60.0)
    clock.now = 161.0
    assert training.is_over(trial, 60.0)
    training.started(trial)
    clock.now += SILENCE_MIN_SECONDS + 61.0
    assert training.is_over(trial, 60.0)


def test_an_objective_is_compared_with_those_that_ended(clock: Clock) -> None:
    short, long = trial_of(1, fidelity=1.0), trial_of(2)
    objective = Watchdog(sends_heartbeats=False)
    objective.started(long)
    clock.now = 1e6  # nothing to compare with
    assert objective.allowed_silence_exceeded(long) is None
    objective.ended(short, 1000.0)
    objective.started(long)
    clock.now += 89_999.0
    assert objective.allowed_silence_exceeded(long) is None
    clock.now += 2.0
    assert objective.allowed_silence_exceeded(long) == 90_000.0
