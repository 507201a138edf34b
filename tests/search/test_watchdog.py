"""How long a trial may take, and may be silent, before it is taken to hang."""

from __future__ import annotations

import pytest

from naxcli.records.trial import Suggestion, Trial
from naxcli.search.watchdog import SILENCE_MIN_SECONDS, START_MIN_SECONDS, Watchdog


def test_a_training_may_be_silent_for_longer_before_its_first_step_than_after(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trial = Trial(trial_id=1, suggestion=Suggestion(config={}, fidelity=9.0, seed=0), searcher="smac")
    training = Watchdog(sends_heartbeats=True)
    training.started(trial)
    now = START_MIN_SECONDS - 1
    assert training.allowed_silence_exceeded(trial) is None
    now = START_MIN_SECONDS + 1
    assert training.allowed_silence_exceeded(trial) == START_MIN_SECONDS
    training.heard(1)
    now += SILENCE_MIN_SECONDS + 1
    assert training.allowed_silence_exceeded(trial) == SILENCE_MIN_SECONDS
    training.heard(1, epoch_seconds=SILENCE_MIN_SECONDS)
    now += 9 * SILENCE_MIN_SECONDS
    assert training.allowed_silence_exceeded(trial) is None


def test_a_time_out_counts_from_where_the_trial_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from where its worker begins to load libraries and images."""
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trial = Trial(trial_id=1, suggestion=Suggestion(config={}, fidelity=9.0, seed=0), searcher="smac")
    training = Watchdog(sends_heartbeats=True)
    training.started(trial)
    now = 100.0
    assert not training.is_over(trial, 60.0)
    training.begun(1)
    now = 159.0
    assert not training.is_over(trial, 60.0)
    now = 161.0
    assert training.is_over(trial, 60.0)
    training.started(trial)
    now += SILENCE_MIN_SECONDS + 61.0
    assert training.is_over(trial, 60.0)


def test_an_objective_is_compared_with_those_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    short, long = (
        Trial(trial_id=number, suggestion=Suggestion(config={}, fidelity=fidelity, seed=0), searcher="smac")
        for number, fidelity in ((1, 1.0), (2, 9.0))
    )
    objective = Watchdog(sends_heartbeats=False)
    objective.started(long)
    now = 1e6  # nothing to compare with
    assert objective.allowed_silence_exceeded(long) is None
    objective.ended(short, 1000.0)
    objective.started(long)
    now += 89_999.0
    assert objective.allowed_silence_exceeded(long) is None
    now += 2.0
    assert objective.allowed_silence_exceeded(long) == 90_000.0
