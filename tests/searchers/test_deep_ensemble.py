"""The deep ensemble: what it learns from sizes and from low fidelities."""

from __future__ import annotations

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, OrdinalHyperparameter

from naxcli.measure.threads import one_thread
from naxcli.searchers import deep_ensemble
from naxcli.searchers.deep_ensemble import Encoder, Ensemble


def space() -> ConfigurationSpace:
    found = ConfigurationSpace(seed=0)
    block, depth = Categorical("block", ["a", "b", "c"]), OrdinalHyperparameter("depth", [1, 2, 3, 4, 5])
    rate = Float("rate", (0.0, 1.0))
    found.add(block, depth, rate)
    found.add(EqualsCondition(rate, block, "a"))
    return found


def inputs(num: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of random configurations and a function of them in which all three hyperparameters matter."""
    found = space()
    found.seed(seed)
    vectors = np.stack([config.get_array() for config in found.sample_configuration(num)])
    names = list(found)
    block, depth, rate = (vectors[:, names.index(name)] for name in ("block", "depth", "rate"))
    return Encoder(found)(vectors), 0.5 * (block == 1) + 0.2 * (depth - 3) ** 2 + np.nan_to_num(rate)


def correlation(ensemble: Ensemble, *, seed: int = 99) -> float:
    x, values = inputs(200, seed=seed)
    return float(np.corrcoef(ensemble.predict(x)[0], values)[0, 1])


def test_inputs_tell_choices_places_and_what_is_inactive() -> None:
    found = space()
    config = found.get_default_configuration()
    encoder = Encoder(found)
    row = dict(zip(range(encoder.num_columns), encoder(config.get_array()[None])[0], strict=True))
    assert encoder.num_columns == 3 + 2 + 2
    assert sorted(row.values()) == sorted([1, 0, 0, -1, 1, 0, 1])  # block a; depth 1, active; rate 0.5, active
    inactive = encoder(np.where(np.isnan(config.get_array()), np.nan, 1.0)[None])
    assert np.isfinite(inactive).all()


def test_members_learn_costs_and_disagree_where_there_are_none() -> None:
    x, values = inputs(60)
    fitted = Ensemble.untrained(x.shape[1], seed=0).fitted(x, np.full(60, 9.0), values)
    assert correlation(fitted) > 0.9
    assert fitted.predict(x)[0] == pytest.approx(values, abs=0.6)
    _, spread = fitted.predict(np.concatenate([x[:20], 4 * x[:20]]))
    assert spread[20:].mean() > 2 * spread[:20].mean()


def test_low_fidelities_help_where_the_highest_has_few_results() -> None:
    cheap, costs = inputs(80)
    few, at_full = inputs(5, seed=1)
    start = Ensemble.untrained(cheap.shape[1], seed=0)
    alone = correlation(start.fitted(few, np.full(5, 9.0), at_full))
    both = start.fitted(
        np.concatenate([cheap, few]), np.repeat([1.0, 9.0], [80, 5]), np.concatenate([costs + 0.3, at_full])
    )
    assert correlation(both) > max(0.8, alone)


def test_pretraining_on_a_related_size_helps_with_few_results() -> None:
    x, sizes = inputs(256, seed=2)
    few, costs = inputs(4, seed=1)
    start = Ensemble.untrained(x.shape[1], seed=0)
    gains = [
        correlation(begun.fitted(few, np.full(4, 9.0), costs))
        for begun in (start, start.pretrained(x, np.stack([3 * sizes + 1, sizes**2], axis=1)))
    ]
    assert gains[1] > gains[0] + 0.05


def test_the_same_events_give_the_same_prediction_bit_for_bit() -> None:
    x, values = inputs(40)
    predictions = []
    for _ in range(2):
        with one_thread():
            fitted = (
                Ensemble.untrained(x.shape[1], seed=3).pretrained(x, values[:, None]).fitted(x, np.ones(40), values)
            )
            predictions.append(fitted.predict(x)[0])
    assert np.array_equal(*predictions)


def test_gradients_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    layers = [
        *Ensemble.untrained(7, seed=0).trunk,
        *(rng.normal(size=shape) for shape in ((5, deep_ensemble.NUM_UNITS, 2), (5, 1, 2))),
    ]
    parameters = [np.asarray(layer, dtype=np.float64) for layer in layers]
    x, targets = rng.random((20, 7)), rng.random((20, 2))

    def loss() -> float:
        return float(((deep_ensemble._forward(x, parameters)[-1] - targets) ** 2).mean())

    outputs = deep_ensemble._forward(x, parameters)
    slopes = [np.zeros_like(parameter) for parameter in parameters]
    errors = outputs[-1] - targets
    deep_ensemble._backward(outputs, 2 * errors / errors.size, parameters, slopes)
    for parameter, slope in zip(parameters, slopes, strict=True):
        place = tuple(int(rng.integers(size)) for size in parameter.shape)
        before = parameter[place]
        around = []
        for step in (1e-5, -1e-5):
            parameter[place] = before + step
            around.append(loss())
        parameter[place] = before
        assert slope[place] == pytest.approx((around[0] - around[1]) / 2e-5, rel=1e-5, abs=1e-9)


def test_predictions_are_the_same_whether_in_one_part_or_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    x, values = inputs(100)
    fitted = Ensemble.untrained(x.shape[1], seed=0).fitted(x, np.ones(100), values)
    whole = fitted.predict(x)
    monkeypatch.setattr(deep_ensemble, "ROWS_AT_ONCE", 7)
    parts = fitted.predict(x)
    assert np.allclose(whole, parts, atol=1e-6)
