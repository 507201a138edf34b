"""Forecasts of learning curves: what they say of curves whose end is known."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from naxcli.searchers.deep_ensemble import Ensemble
from naxcli.searchers.forecast import MIN_CURVES, Forecast, make_forecast

NUM_EPOCHS = 20


def curves_of(ends: npt.NDArray[np.float64], *, seed: int, is_power_law: bool = True) -> npt.NDArray[np.float64]:
    """Return noisy curves to some ends; those of a learning rate that decays fall at the end as well."""
    rng = np.random.default_rng(seed)
    epochs = np.arange(1, NUM_EPOCHS + 1)
    law = epochs**-0.5 - NUM_EPOCHS**-0.5
    if not is_power_law:
        law = 0.5 * law + 0.2 * (1 + np.cos(np.pi * epochs / NUM_EPOCHS)) / 2
    size = rng.uniform(0.4, 0.6, len(ends))
    return ends[:, None] + size[:, None] * law + rng.normal(0, 0.004, (len(ends), NUM_EPOCHS)) * (law > 0)


def forecast_of(
    number: int, *, seed: int = 0, is_power_law: bool = True, incumbent: float | None = None
) -> tuple[Forecast | None, npt.NDArray[np.float64]]:
    """Return the forecast after a number of complete curves, of inputs that tell half of the ends, and 80 curves to try it on."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(number + 80, 3)).astype(np.float32)
    ends = 0.3 + 0.05 * inputs[:, 0] + 0.05 * rng.normal(size=len(inputs))
    curves = curves_of(ends, seed=seed, is_power_law=is_power_law)
    forecast = make_forecast(
        Ensemble.untrained(3, seed=seed),
        inputs=inputs[:number],
        costs=curves[:number, -1],
        curves=[list(curve) for curve in curves[:number]],
        candidate=inputs[number : number + 1],
        incumbent=float(curves[:number, -1].min()) if incumbent is None else incumbent,
    )
    return forecast, curves[number:]


@pytest.mark.parametrize("is_power_law", [True, False])
def test_few_that_would_have_won_are_given_up_and_most_others_early(is_power_law: bool) -> None:
    forecast, curves = forecast_of(30, is_power_law=is_power_law, incumbent=0.25)
    assert forecast is not None
    wins = curves[:, -1] < 0.25
    ended = np.array(
        [
            next((epoch for epoch in range(1, NUM_EPOCHS) if forecast.chance(curve[:epoch]) < 0.05), NUM_EPOCHS)
            for curve in curves
        ]
    )
    assert (ended[wins] < NUM_EPOCHS).mean() < 0.1
    assert np.median(ended[~wins]) < NUM_EPOCHS / 2


def test_the_end_is_told_better_the_more_epochs_are_known_and_within_what_it_claims() -> None:
    forecast, curves = forecast_of(30)
    assert forecast is not None
    errors = []
    for known in (1, 5, 15):
        told = [forecast.end(curve[:known]) for curve in curves]
        errors.append(np.abs(curves[:, -1] - told).mean())
        chances = [dataclasses.replace(forecast, incumbent=curve[-1]).chance(curve[:known]) for curve in curves]
        assert np.mean([0.025 < chance < 0.975 for chance in chances]) > 0.85
    assert errors[0] > errors[1] > errors[2]


def test_there_is_no_forecast_from_few_curves() -> None:
    assert forecast_of(MIN_CURVES - 1)[0] is None
    assert forecast_of(MIN_CURVES)[0] is not None


def test_a_forecast_is_the_same_where_the_trial_runs() -> None:
    forecast, curves = forecast_of(12)
    assert forecast is not None
    sent = Forecast.from_dict(json.loads(json.dumps(dataclasses.asdict(forecast))))
    assert sent.end(curves[0][:7]) == forecast.end(curves[0][:7])
    assert forecast_of(12)[0] == forecast


def test_a_forecast_is_passed_on_without_scipys_statistics() -> None:
    program = "import sys, naxcli.workers.task; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
