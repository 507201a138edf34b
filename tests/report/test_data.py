"""What every rendering derives from a run's records."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from naxcli.report import ReportData
from tests.report.examples import example_data

HOUR = 3_600.0


@pytest.fixture(scope="module")
def true() -> ReportData:
    return example_data(100)


@pytest.fixture(scope="module")
def jumped(true: ReportData) -> ReportData:
    """The same run on a machine whose clock was set back by an hour before the fiftieth trial began."""
    trials = true.trials.copy()
    is_later = trials["trial_id"] >= 50
    trials.loc[is_later, ["started_at", "ended_at"]] -= HOUR
    return dataclasses.replace(true, trials=trials)


def test_trials_of_a_run_whose_clock_was_set_back_are_in_the_order_in_which_they_ended(
    true: ReportData, jumped: ReportData
) -> None:
    assert not jumped.trials["ended_at"].is_monotonic_increasing
    assert list(jumped.successes["trial_id"]) == list(true.successes["trial_id"])
    assert list(jumped.trial_seconds(jumped.trials)) == list(true.trial_seconds(true.trials))


def test_time_since_the_start_only_grows_and_misses_at_most_a_trial_where_the_clock_was_set_back(
    true: ReportData, jumped: ReportData
) -> None:
    found, expected = (data.elapsed_seconds(data.trials).to_numpy() for data in (jumped, true))
    assert found.min() > 0
    assert np.all(found <= expected + 1e-6)
    assert np.all(found >= expected - true.trials["seconds"].max())
