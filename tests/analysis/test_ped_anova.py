"""PED-ANOVA: equal to Optuna's, and what its intervals and decoys say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer, OrdinalHyperparameter

from naxcli.analysis.encoding import Encoding
from naxcli.analysis.ped_anova import Quantiles, Separation, ped_anova
from naxcli.analysis.summary import summarise
from naxcli.analysis.table import check_table
from naxcli.errors import NaxcliError


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    found.add(Categorical("block", ["a", "b", "c"]), Categorical("se", [0, 1]), OrdinalHyperparameter("o", [1, 2, 4]))
    found.add(Float("lr", (1e-4, 1.0), log=True), Float("x", (-2.0, 3.0)), Float("ratio", (0.0, 1.0)))
    found.add(Integer("depth", (1, 8)), Integer("width", (16, 512), log=True), Integer("many", (0, 200)))
    found.add(EqualsCondition(found["ratio"], found["se"], 1))
    return found


def trials(num: int, *, seed: int, noise: float = 0.3) -> pd.DataFrame:
    """Return random trials whose cost depends on block, lr, depth and ratio."""
    configuration_space = space()
    configuration_space.seed(seed)
    rng = np.random.default_rng(seed)
    rows = []
    for configuration in configuration_space.sample_configuration(num):
        config = {
            name: value.item() if hasattr(value, "item") else value for name, value in dict(configuration).items()
        }
        cost = (config["block"] == "a") + abs(np.log10(config["lr"]) + 2) + 0.1 * config["depth"]
        cost -= 0.5 * config.get("ratio", 0)
        rows.append({name: config.get(name) for name in configuration_space} | {"cost": cost + noise * rng.normal()})
    return pd.DataFrame(rows).assign(fidelity=1.0, status="success", trial_id=range(num))


def separated(frame: pd.DataFrame, quantiles: Quantiles, **choices: Any) -> Separation:
    table, vectors = check_table(frame, space())
    costs = table["cost"].to_numpy(dtype=float)
    return ped_anova(Encoding(space()), vectors, costs, quantiles, **{"seed": 0, "has_intervals": False, **choices})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("num", "target", "region"), [(60, 0.1, 0.5), (60, 0.2, 1.0), (200, 0.1, 0.5)])
def test_importance_is_that_of_optuna_with_conditions_too(num: int, target: float, region: float) -> None:
    optuna = pytest.importorskip("optuna", minversion="5.0", reason="Optuna 5, whose numbers are compared, is absent")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distribution = optuna.distributions
    distributions = {
        "block": distribution.CategoricalDistribution(["a", "b", "c"]),
        "se": distribution.CategoricalDistribution([0, 1]),
        "lr": distribution.FloatDistribution(1e-4, 1.0, log=True),
        "x": distribution.FloatDistribution(-2.0, 3.0),
        "ratio": distribution.FloatDistribution(0.0, 1.0),
        "depth": distribution.IntDistribution(1, 8),
        "width": distribution.IntDistribution(16, 512, log=True),
        "many": distribution.IntDistribution(0, 200),
    }
    frame = trials(num, seed=num)
    study = optuna.create_study()
    for row in frame.to_dict("records"):
        params = {
            name: int(row[name]) if "Int" in type(kind).__name__ else row[name]
            for name, kind in distributions.items()
            if not pd.isna(row[name])
        }
        chosen = {name: distributions[name] for name in params}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=chosen, value=row["cost"]))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=target, region_quantile=region)
    theirs = evaluator.evaluate(study)
    ours = separated(frame, Quantiles(target=target, region=region))
    assert {name: ours.rows[name].optuna for name in theirs} == pytest.approx(theirs, rel=1e-9)
    share = ours.num_target / ours.num_region
    for name in ("lr", "ratio", "depth", "width"):
        # Of what has an order, ours is the same as a share of the variance of being in the target.
        assert ours.rows[name].estimate.mean == pytest.approx(theirs[name] / (share * (1 - share)), rel=1e-9)


def test_what_separates_the_best_is_shown_and_what_does_nothing_is_not() -> None:
    found = separated(trials(600, seed=1), Quantiles(target=0.1, region=1.0), has_intervals=True).rows
    for name in ("block", "lr"):
        row = found[name].estimate
        assert row.matters and row.low is not None and row.high is not None and row.mean is not None
        assert 0 < row.low < row.mean < row.high < 1
    assert found["block"].typical["value"] in ("b", "c")
    assert found["block"].typical["target_share"] > found["block"].typical["region_share"]
    assert found["lr"].typical["value"] == pytest.approx(0.01, rel=1.0)
    nothing = [found[name].estimate for name in ("x", "o", "many", "width")]
    assert sum(bool(row.matters) for row in nothing) <= 1
    assert all(row.low == 0 for row in nothing if not row.matters)


def test_intervals_hold_the_share_of_variance_of_a_choice() -> None:
    """Of two choices, one is twice as frequent among the best: the true share is known."""
    configuration_space = ConfigurationSpace()
    configuration_space.add(Categorical("a", [0, 1]), Categorical("none", [0, 1, 2]))
    encoding, rng = Encoding(configuration_space), np.random.default_rng(0)
    held: dict[str, list[bool]] = {"a": [], "none": []}
    for seed in range(60):
        codes = rng.integers([[2, 3]], size=(300, 2)).astype(float)
        # Among the best fifth, 2/3 have the first choice; among all, 1/2.
        is_best = rng.random(300) < np.where(codes[:, encoding.names.index("a")] == 0, 2 / 3, 1 / 3) * 0.4
        costs = np.where(is_best, 0.0, 1.0)
        quantiles = Quantiles(target=float(is_best.mean()) - 1e-9, region=1.0)
        found = ped_anova(encoding, codes, costs, quantiles, seed=seed, has_intervals=True).rows
        for name, truth in (("a", 0.2 / 0.8 * (1 / 3) ** 2), ("none", 0.0)):
            row = found[name].estimate
            assert row.low is not None and row.high is not None
            held[name].append(row.low <= truth <= row.high)
    # Sixty intervals of 95 % hold less often than this once in a thousand times.
    assert min(np.mean(each) for each in held.values()) >= 0.83


def test_too_few_of_the_best_and_equal_costs_separate_nothing() -> None:
    frame = trials(40, seed=0)
    assert separated(frame, Quantiles(target=0.1, region=0.5)).rows == {}
    assert separated(frame.assign(cost=1.0), Quantiles(target=0.5, region=1.0)).rows == {}
    assert separated(frame, Quantiles(target=0.125, region=0.5)).num_target == 5


def test_a_report_names_the_quantiles_it_used_and_refuses_impossible_ones() -> None:
    frame = trials(60, seed=0)
    entry = summarise(frame, space(), methods=("ped_anova",), best=(0.2, 0.6), bootstrap=5)["importance"][-1]
    assert entry["quantiles"] == {"target": 0.2, "region": 0.6, "num_target": 12, "num_region": 36}
    means = [row["mean"] for row in entry["ped_anova"]]
    assert len(means) == 9 and means == sorted(means, reverse=True)
    assert entry["lpi"] == entry["tunability"] == []
    without = summarise(frame, space(), methods=("ped_anova",), bootstrap=0)["importance"][-1]["ped_anova"]
    assert {(row["low"], row["matters"]) for row in without} == {(None, None)}
    with pytest.raises(NaxcliError, match="best 50 % of the trials are no part of the best 10 %"):
        summarise(frame, space(), best=(0.5, 0.1))
